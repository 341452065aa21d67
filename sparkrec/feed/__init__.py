"""Encoded parquet to Torch batches, through petastorm."""

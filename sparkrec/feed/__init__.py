"""Reads encoded parquet as Torch batches, through petastorm."""

"""Paths, tables and tensors, on a local disk and on S3, written as a whole or not at all."""

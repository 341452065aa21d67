"""Feeding Spark DataFrames to Torch and training on the driver or the executors."""

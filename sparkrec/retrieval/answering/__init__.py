"""Answering queries with a saved model, in one process and without Spark."""

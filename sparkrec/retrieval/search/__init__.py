"""The best items of a query: vector index and top-k. Imports no Spark."""

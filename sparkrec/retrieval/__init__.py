"""The retriever interface, the vector index, and batch recommendation on executors."""

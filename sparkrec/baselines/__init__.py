"""Count-based retrievers. Imports no Torch."""

"""Feature declarations: column and combine files, hashing, and the encoder to embedding rows."""

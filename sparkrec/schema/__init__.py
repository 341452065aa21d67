"""Feature declarations: column and combine files, hashing, and the encoder to dense rows."""

"""Popular items: for everyone, for a segment, or of the user's own past."""

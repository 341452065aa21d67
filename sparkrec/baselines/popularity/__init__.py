"""Popular items: of all users, of a segment, or of the user's own history."""

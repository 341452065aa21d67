"""Raw files to canonical tables (events, users, items)."""

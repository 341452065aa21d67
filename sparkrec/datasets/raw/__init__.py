"""Raw tables of any origin: read them, parse their times, filter, number and deduplicate events."""

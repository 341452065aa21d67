"""Raw tables: reading, parsing of times, filtering, numbering and removing of duplicate events."""

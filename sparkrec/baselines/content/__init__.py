"""Yardsticks that read the content of items, and so can recommend items nobody has seen."""

"""Checks that the networks' configs share. They raise a ValueError that names the field."""

from typing import Any


def at_least_one(config: Any, *names: str) -> None:
    """Check fields that are counts: each must be at least 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1")


def widths(config: Any, name: str) -> None:
    """Check a field that holds layer widths: not empty, each at least 1."""
    if not getattr(config, name) or min(getattr(config, name)) < 1:
        raise ValueError(f"{name} must name at least one width, each at least 1")


def probabilities(config: Any, *names: str) -> None:
    """Check fields that are dropout probabilities: each must lie in [0, 1)."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name} must lie in [0, 1)")

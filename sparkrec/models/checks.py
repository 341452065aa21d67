"""Checks that the networks' configs share; a ValueError names the field."""

from typing import Any


def at_least_one(config: Any, *names: str) -> None:
    """Fields that count something."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1")


def widths(config: Any, name: str) -> None:
    """A field with the widths of layers."""
    if not getattr(config, name) or min(getattr(config, name)) < 1:
        raise ValueError(f"{name} must name at least one width, each at least 1")


def probabilities(config: Any, *names: str) -> None:
    """Fields with a probability to drop something."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name} must lie in [0, 1)")

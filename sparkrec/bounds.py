"""Bounds of the numbers in configs, as part of their types.

A field says its bounds in its type, `epochs: Annotated[int, Bounds(1, 10_000)] = 10`, and the
`__post_init__` of its dataclass calls `check_bounds`. So a conf, `--set`, the params of an
Estimator, the settings in a saved model and a config made in Python are all checked, and the same
bounds stand in a job's `-h`.
"""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any

from sparkrec.errors import shown


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value; with `above` or `below`, that value itself is refused."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        low, high = f"{self.low:,}", f"{self.high:,}"
        return f"{'above ' * self.above}{low} to {'below ' * self.below}{high}"

    def check(self, name: str, value: Any, whole: bool) -> None:
        """Raise ValueError, with the name in front, for a value outside of the bounds."""
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            raise ValueError(f"{name} must be a {'whole ' * whole}number, not {shown(value)}")
        number: Any = value
        if number < self.low or (self.above and number == self.low):
            wanted = f"{'above' if self.above else 'at least'} {self.low:,}"
        elif number > self.high or (self.below and number == self.high):
            wanted = f"{'below' if self.below else 'at most'} {self.high:,}"
        elif number != number:
            wanted = "a number"
        else:
            return
        raise ValueError(f"{name} must be {wanted}, not {shown(value)}")


# Spark, faiss and Torch count in 32 bits in places.
Count = Annotated[int, Bounds(1, 2**31 - 1)]
CountOrZero = Annotated[int, Bounds(0, 2**31 - 1)]
Width = Annotated[int, Bounds(1, 65_536)]
Length = Annotated[int, Bounds(1, 100_000)]
TopK = Annotated[int, Bounds(1, 1_000_000)]
# NumPy's generators take no negative seed, and Spark's take 64 bits.
Seed = Annotated[int, Bounds(0, 2**63 - 1)]
# Seconds since the epoch, before the year 2100.
Moment = Annotated[int, Bounds(0, 4_102_444_800)]
Dropout = Annotated[float, Bounds(0, 1, below=True)]
Decay = Annotated[float, Bounds(0, 1, above=True)]
Share = Annotated[float, Bounds(0, 1)]
Power = Annotated[float, Bounds(0, 10)]
Weight = Annotated[float, Bounds(0, 1_000_000)]
Rating = Annotated[float, Bounds(-1_000_000_000, 1_000_000_000)]


@cache
def bounded_fields(cls: Any) -> dict[str, Any]:
    """The fields of a dataclass with bounds in their types, and those types."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls) if bounds_of(hints[field.name])}


def bounds_of(hint: Any) -> Bounds | None:
    """The bounds in a type: a number's own, or those in a union, tuple or dict of numbers."""
    if typing.get_origin(hint) is Annotated:
        return next((one for one in hint.__metadata__ if isinstance(one, Bounds)), None)
    return next(filter(None, map(bounds_of, typing.get_args(hint))), None)


def check_bounds(config: Any) -> None:
    """Raise ValueError if a number in a dataclass is outside of the bounds of its field."""
    kind: Any = type(config)
    for name, hint in bounded_fields(kind).items():
        _check(name, getattr(config, name), hint)


def _check(name: str, value: Any, hint: Any) -> None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = bounds_of(hint)
        assert bounds is not None
        bounds.check(name, value, arguments[0] is int)
    elif origin is tuple:
        for place, item in enumerate(value):
            _check(f"{name}[{place}]", item, arguments[0])
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check(f"{name}.{key}", item, arguments[1])
    elif value is not None:
        _check(name, value, next(one for one in arguments if bounds_of(one)))

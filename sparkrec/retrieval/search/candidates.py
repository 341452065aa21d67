"""Candidate rules: which items may be given, by id, by their columns, and at which time.

The same rules are written in a conf (`retrieval.candidates`), as a param of a model, and as JSON::

    candidates:
      deny: [17, 42]
      where:
        department: {any_of: [GROCERY, PRODUCE]}
        price: {at_least: 1, below: 20}
      available_from: launch_date
      available_until: end_date

An item must meet all of them. Imports no Spark.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparkrec.bounds import Bounds, check_bounds
from sparkrec.config.load import from_json
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import ConfigError, DataError
from sparkrec.retrieval.search.allowed import Allowed, seconds_of

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Whole numbers that a float holds exactly.
_FLOAT = Bounds(-9e15, 9e15)
_BOUNDS = {
    "at_least": pc.greater_equal,
    "above": pc.greater,
    "at_most": pc.less_equal,
    "below": pc.less,
}


@dataclass(frozen=True)
class Condition:
    """A condition on a column of the items' table; all of its parts must hold.

    A missing value meets no condition but `none_of`. A column of arrays meets `any_of` if one of
    its values is named, and `none_of` if none is.

    Attributes
    ----------
    any_of
        The value must be one of these.
    none_of
        The value must not be one of these.
    at_least, above, at_most, below
        Bounds of a number.
    """

    any_of: tuple[Any, ...] | None = None
    none_of: tuple[Any, ...] | None = None
    at_least: Annotated[float, _FLOAT] | None = None
    above: Annotated[float, _FLOAT] | None = None
    at_most: Annotated[float, _FLOAT] | None = None
    below: Annotated[float, _FLOAT] | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        if all(value is None for value in vars(self).values()):
            raise ValueError(f"a condition names one of {', '.join(vars(self))}")

    def met_by(self, values: pa.Array, column: str) -> Mask:
        """Which values of a column meet the condition, [values]."""
        met = np.ones(len(values), bool)
        for name, bound in vars(self).items():
            if bound is None:
                continue
            if name in ("any_of", "none_of"):
                found = _is_one_of(values, bound, column)
                met &= found if name == "any_of" else ~found
            else:
                kind = values.type
                if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                    raise DataError(
                        f"candidates.where: `{name}` compares numbers, but the column `{column}` "
                        f"of the items is of type {kind}"
                    )
                compared = _BOUNDS[name](values.cast(pa.float64()), float(bound))
                met &= pc.fill_null(compared, False).to_numpy(zero_copy_only=False)
        return met


def _is_one_of(values: pa.Array, named: tuple[Any, ...], column: str) -> Mask:
    """Which values are among those named; for arrays, of which some value is."""
    nested = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
    flat = values.flatten() if nested else values
    if pa.types.is_dictionary(flat.type):
        flat = flat.dictionary_decode()
    try:
        wanted = pa.array(list(named)).cast(flat.type)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise DataError(
            f"candidates.where: the column `{column}` of the items is of type {flat.type}, unlike "
            f"{list(named)}: {error}"
        ) from None
    found = pc.is_in(flat, value_set=wanted, skip_nulls=True).to_numpy(zero_copy_only=False)
    if not nested:
        return np.asarray(found, bool)
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(values)), lengths)
    return np.bincount(rows[found], minlength=len(values)) > 0


@dataclass(frozen=True)
class Candidates:
    """Which items may be given; all of the catalogue by default.

    Attributes
    ----------
    allow
        Raw ids of the only items to give.
    deny
        Raw ids of items that are not given.
    where
        Conditions on columns of the items' table, by column.
    available_from, available_until
        Columns of the items' table with the times between which an item may be given, in seconds
        since the epoch or as timestamps: from the one on, and before the other. An item without a
        value has no bound. They are compared with the `timestamp` of the query, which every query
        must have.
    """

    allow: tuple[Any, ...] | None = None
    deny: tuple[Any, ...] = ()
    where: dict[str, Condition] = field(default_factory=dict)
    available_from: str | None = None
    available_until: str | None = None

    @classmethod
    def of(cls, value: Any) -> "Candidates | None":
        """Rules from what a caller gives: rules, their JSON, or a list of the ids to allow.

        Raises
        ------
        ConfigError
            JSON with an unknown key, or a value of the wrong type.
        TypeError
            It is nothing of these.
        """
        if value is None or isinstance(value, Candidates):
            return value
        if isinstance(value, Mapping):
            found: Candidates = from_json(cls, value, "candidates")
            return found
        if isinstance(value, str):
            raise TypeError(f"candidates must be rules or a list of item ids, not {value!r}")
        return cls(allow=tuple(value))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is not set is left out."""
        values = asdict(self)
        values["where"] = {
            column: {name: list(v) if isinstance(v, tuple) else v for name, v in one.items() if v}
            for column, one in values["where"].items()
        }
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None and (value or name == "allow")
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the items' table that the rules read."""
        times = (self.available_from, self.available_until)
        return tuple(dict.fromkeys([*self.where, *(name for name in times if name is not None)]))

    @property
    def by_time(self) -> bool:
        """Whether the rules read the time of a query."""
        return self.available_from is not None or self.available_until is not None

    def resolve(self, catalogue: Catalogue, items: pa.Table | None, item: str) -> Allowed:
        """The items of a catalogue that the rules allow.

        Parameters
        ----------
        items
            Table with the columns `item` and `columns`; None if the rules read none.

        Raises
        ------
        ConfigError
            The rules read columns of items, and there is no table.
        DataError
            A column is missing, or of a type that a rule cannot read.
        """
        mask = np.ones(len(catalogue), bool)
        if self.allow is not None:
            mask[:] = False
            mask[_numbers(catalogue, self.allow, "allow")] = True
        mask[_numbers(catalogue, self.deny, "deny")] = False
        if not self.columns:
            return Allowed(mask)
        table = _of_catalogue(catalogue, items, item, self.columns)
        for column, condition in self.where.items():
            mask &= condition.met_by(table[column], column)
        times = [
            None if name is None else seconds_of(table[name], name, missing)
            for name, missing in ((self.available_from, -np.inf), (self.available_until, np.inf))
        ]
        return Allowed(mask, *times)


def _numbers(catalogue: Catalogue, ids: tuple[Any, ...], rule: str) -> Ints:
    """Numbers of the items of a rule that the catalogue has."""
    kind = catalogue.ids.type
    wide = pa.int64() if pa.types.is_integer(kind) else kind
    try:
        numbers = catalogue.numbers(pa.array(list(ids), wide))
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise DataError(
            f"candidates.{rule}: the ids of items are of type {kind}: {error}"
        ) from None
    return numbers[numbers >= 0]


def _of_catalogue(
    catalogue: Catalogue, items: pa.Table | None, item: str, columns: tuple[str, ...]
) -> dict[str, pa.Array]:
    """Columns of the items' table in the order of the catalogue; null for an item without a row."""
    if items is None:
        raise ConfigError(
            f"candidates: the rules read the column `{columns[0]}` of the items, but no table of "
            "items was given; name it in input.items, or set the model's `items`"
        )
    for column in (item, *columns):
        if column not in items.column_names:
            raise DataError(
                f"candidates: the items table has no column `{column}` (it has "
                f"{', '.join(items.column_names)})"
            )
    numbers = catalogue.numbers(items.column(item))
    row = np.full(len(catalogue), -1, np.int64)
    row[numbers[numbers >= 0]] = np.flatnonzero(numbers >= 0)
    rows = pa.array(row, mask=row < 0)
    return {name: items.column(name).combine_chunks().take(rows) for name in columns}

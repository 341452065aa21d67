"""Maps feature hashes to rows of one embedding table per tower.

Row 0 of the table is padding, row 1 is for unknown values, then follow a fixed range of rows for
every bucketed feature, and one row for each hash of the vocabulary. Growing appends rows and does
not move any, so training can continue from an earlier model. Features with the same hash names
(through aliases) share their rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from sparkrec.errors import SchemaError
from sparkrec.schema.hashed_columns import (
    MAX_FEATURE_WIDTH,
    HashedColumn,
    distinct_hashes,
    hash_column,
    hash_columns,
    hash_feature,
)
from sparkrec.schema.hashing import NO_HASH
from sparkrec.schema.parser import Feature, FeatureSchema, did_you_mean

PADDING_ROW = 0
UNKNOWN_ROW = 1
_FIRST_ROW = 2


@dataclass(frozen=True, eq=False)
class FeatureEncoder:
    """Turns tables with a schema's columns into matrices of embedding rows.

    Parameters
    ----------
    schema
        The tower's columns and features.
    widths
        For list columns only, the maximum number of values of a list; the last values are used. A
        column that is not named here is a scalar, of width 1.
    hashes
        uint64 [vocabulary], distinct, in the order of their rows.
    buckets
        Number of rows by feature name. Such a feature has no vocabulary; the row of a value is its
        hash modulo this number. For features with too many values to have a row for each.

    Raises
    ------
    SchemaError
        A feature is wider than 4096; a width is not positive or not of a column that is read; the
        hashes are not distinct; or a number of buckets is not positive, not of a feature, or
        different for features that share their hash names.
    """

    schema: FeatureSchema
    widths: dict[str, int]
    hashes: np.ndarray
    buckets: dict[str, int] = field(default_factory=dict)
    _order: np.ndarray = field(init=False, repr=False)
    _sorted: np.ndarray = field(init=False, repr=False)
    _ranges: dict[tuple[str, ...], tuple[int, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        hashes = np.ascontiguousarray(self.hashes, np.uint64)
        order = np.argsort(hashes, kind="stable")
        object.__setattr__(self, "hashes", hashes)
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_sorted", hashes[order])
        object.__setattr__(self, "_ranges", _bucket_ranges(self.schema, self.buckets))
        if np.any(self._sorted[1:] == self._sorted[:-1]):
            raise SchemaError(
                "the encoder's hashes repeat, so they are not a vocabulary; fit again"
            )
        for column, width in self.widths.items():
            if column not in self.schema.used_columns or width < 1:
                raise SchemaError(
                    f"widths: {column!r}: {width} is not a column that a feature reads with a "
                    "length of at least 1"
                )
        for feature in self.schema.features:
            if feature.form != "value":
                raise SchemaError(
                    f"{self.schema.source}: {feature.name} describes the content of an item; it "
                    "can only be a feature of the item side"
                )
            if self.feature_width(feature) > MAX_FEATURE_WIDTH:
                raise SchemaError(
                    f"feature {feature.name!r} would be {self.feature_width(feature)} rows wide, "
                    f"more than {MAX_FEATURE_WIDTH}: its lists are crossed value by value; lower "
                    "max_list_length or cross fewer lists"
                )

    def feature_width(self, feature: Feature) -> int:
        """Number of columns of the matrix for a feature: the product of its columns' widths."""
        return math.prod(self.widths.get(column, 1) for column in feature.columns)

    @property
    def slices(self) -> list[tuple[int, int]]:
        """(start, stop) of each feature's columns in the matrix, in the order of the features."""
        bounds = [0]
        for feature in self.schema.features:
            bounds.append(bounds[-1] + self.feature_width(feature))
        return list(pairwise(bounds))

    @property
    def width(self) -> int:
        """Number of columns of the matrix."""
        return sum(self.feature_width(feature) for feature in self.schema.features)

    @property
    def num_rows(self) -> int:
        """Number of rows of the embedding table, including padding and unknown."""
        return self._first_hash_row + len(self.hashes)

    @property
    def _first_hash_row(self) -> int:
        return _FIRST_ROW + sum(size for _, size in self._ranges.values())

    def encode(self, table: pa.Table | pa.RecordBatch) -> np.ndarray:
        """Look up the embedding rows of every feature of every row.

        Parameters
        ----------
        table
            The schema's used columns, in any order; others are ignored.

        Returns
        -------
        np.ndarray
            int64 [rows, width], C-contiguous. The slice of a feature has its values from the left,
            in the order of the list (oldest first), and 0 after them. If a list is longer than its
            width, the last values are used; nulls and empty texts are dropped first.

        Raises
        ------
        SchemaError
            A column is missing, cannot be hashed, or has lists where it had scalars at fit, or the
            reverse.

        Notes
        -----
        Each distinct value of a record batch is hashed and looked up once. Crosses are looked up
        cell by cell, each in logarithmic time of the vocabulary.
        """
        matrix = np.zeros((table.num_rows, self.width), np.int64)
        done = 0
        for batch in _batches(table):
            columns = hash_columns(self.schema, batch, self.widths)
            part = matrix[done : done + batch.num_rows]
            for feature, (start, _) in zip(self.schema.features, self.slices, strict=True):
                rows = self._feature_rows(feature, columns)
                part[:, start : start + rows.shape[1]] = rows
            done += batch.num_rows
        return matrix

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """`encode` for Python mappings, one per row, as in serving.

        Raises
        ------
        SchemaError
            As `encode`; also if a row does not have a used column (use None for "no value"), or if
            a column mixes types.
        """
        arrays = {}
        for column in self.schema.used_columns:
            for number, row in enumerate(rows):
                if column not in row:
                    self.schema.require(row, f"row {number}", used_only=True)
            try:
                arrays[column] = pa.array([row[column] for row in rows])
            except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise SchemaError(
                    f"column {column!r} cannot be read: {reason}; give it one type, text or whole "
                    "numbers, or lists of one of those"
                ) from error
        return self.encode(pa.table(arrays))

    def rows_of(self, feature: Feature, values: pa.Array) -> np.ndarray:
        """Embedding rows of single values of a feature of one column, int64 [values]."""
        hashed = hash_column(values, feature.columns[0])
        return self._rows(feature, hashed.field(feature.names[0]))[hashed.codes[:, 0]]

    def distinct_hashes(self, table: pa.Table | pa.RecordBatch) -> np.ndarray:
        """The distinct hashes in the data, of all features without buckets; uint64, sorted."""
        found = [np.zeros(0, np.uint64)]
        for batch in _batches(table):
            columns = hash_columns(self.schema, batch, self.widths)
            found.append(distinct_hashes(self.schema, columns, self.buckets))
        return np.unique(np.concatenate(found))

    def grow(self, new_hashes: np.ndarray) -> "FeatureEncoder":
        """A new encoder in which old hashes keep their rows and new ones, sorted, get rows after.

        Parameters
        ----------
        new_hashes
            uint64, in any order; may contain duplicates and known hashes.
        """
        new = np.setdiff1d(np.asarray(new_hashes, np.uint64), self.hashes)
        hashes = np.concatenate((self.hashes, new[new != NO_HASH]))
        return FeatureEncoder(self.schema, self.widths, hashes, self.buckets)

    def to_json(self) -> dict[str, Any]:
        """Everything except the vocabulary, as plain dicts; see `arrays`."""
        return {
            "schema": self.schema.to_json(),
            "widths": dict(self.widths),
            "buckets": dict(self.buckets),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The vocabulary: `hashes`, int64 [vocabulary], with the bits of the uint64 hashes."""
        return {"hashes": self.hashes.view(np.int64)}

    @classmethod
    def restore(cls, data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "FeatureEncoder":
        """Restore the encoder from the output of `to_json` and `arrays`."""
        hashes = np.ascontiguousarray(arrays["hashes"], np.int64).view(np.uint64)
        schema = FeatureSchema.from_json(data["schema"])
        return cls(schema, dict(data["widths"]), hashes, dict(data["buckets"]))

    def _feature_rows(self, feature: Feature, columns: Mapping[str, HashedColumn]) -> np.ndarray:
        if len(feature.columns) > 1:
            return self._rows(feature, hash_feature(feature, columns))
        hashed = columns[feature.columns[0]]
        return self._rows(feature, hashed.field(feature.names[0]))[hashed.codes]

    def _rows(self, feature: Feature, hashes: np.ndarray) -> np.ndarray:
        """Rows of the hashes in the table, int64, in the shape of `hashes`."""
        if feature.names in self._ranges:
            first, size = self._ranges[feature.names]
            rows = (hashes % np.uint64(size)).astype(np.int64) + first
        elif len(self.hashes) == 0:
            rows = np.full(hashes.shape, UNKNOWN_ROW, np.int64)
        else:
            at = np.minimum(np.searchsorted(self._sorted, hashes), len(self.hashes) - 1)
            rows = self._order[at] + self._first_hash_row
            rows[self._sorted[at] != hashes] = UNKNOWN_ROW
        rows[hashes == NO_HASH] = PADDING_ROW
        return rows


def _batches(table: pa.Table | pa.RecordBatch) -> list[pa.RecordBatch]:
    return [table] if isinstance(table, pa.RecordBatch) else table.to_batches()


def _bucket_ranges(
    schema: FeatureSchema, buckets: Mapping[str, int]
) -> dict[tuple[str, ...], tuple[int, int]]:
    """(first row, number of rows) of each bucketed feature, by the hash names that share rows."""
    features = {feature.name: feature for feature in schema.features}
    for name, number in buckets.items():
        if name not in features:
            raise SchemaError(
                f"buckets: {name!r} is not a feature{did_you_mean(name, list(features))}"
            )
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise SchemaError(f"buckets: {name!r} needs a whole number above 0, not {number!r}")
    ranges: dict[tuple[str, ...], tuple[int, int]] = {}
    leaders: dict[tuple[str, ...], str] = {}
    first = _FIRST_ROW
    for feature in schema.features:
        leader = leaders.setdefault(feature.names, feature.name)
        size, expected = buckets.get(feature.name), buckets.get(leader)
        if size != expected:
            raise SchemaError(
                f"buckets: {leader!r} and {feature.name!r} share embeddings, so they need the same "
                f"number of buckets, not {expected} and {size}"
            )
        if size is not None and feature.names not in ranges:
            ranges[feature.names] = (first, size)
            first += size
    return ranges

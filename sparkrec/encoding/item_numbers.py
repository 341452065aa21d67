"""The numbers of items: `number(price)`, standardised by train, and `vector(embedding)`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkrec.errors import DataError, SchemaError
from sparkrec.schema.parser import FeatureSchema

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# A number that lies farther from the mean, in standard deviations, counts as this far.
_FARTHEST = 5.0


@dataclass(frozen=True)
class ItemNumbers:
    """Encodes the features of the forms `number` and `vector`.

    Attributes
    ----------
    moments
        Mean and standard deviation of each `number(column)`, by column.
    lengths
        Length of each `vector(column)`, by column.
    """

    moments: Mapping[str, tuple[float, float]]
    lengths: Mapping[str, int]

    @classmethod
    def fit(cls, table: pa.Table, of_train: Mask, schema: FeatureSchema) -> "ItemNumbers":
        """Fit to a table of items, of which those of a mask [items] are train's."""
        moments, lengths = {}, {}
        for feature in schema.features:
            column = feature.columns[0]
            if feature.form == "number":
                moments[column] = _moments(table.filter(pa.array(of_train)), column)
            elif feature.form == "vector":
                lengths[column] = _vectors(table, column, None).shape[1]
        return cls(moments, lengths)

    @property
    def width(self) -> int:
        """Number of numbers of an item."""
        return len(self.moments) + sum(self.lengths.values())

    def encode(self, table: pa.Table) -> Floats:
        """float32 [items, width]: numbers less their mean, by their deviation, then the vectors.

        What is missing is 0. See `ItemFeatures.encode` for the errors.
        """
        parts = [np.zeros((table.num_rows, 0), np.float32)]
        for column, (mean, deviation) in self.moments.items():
            values = (_numbers(table, column) - mean) / deviation
            clipped = np.clip(np.nan_to_num(values), -_FARTHEST, _FARTHEST)
            parts.append(clipped[:, None].astype(np.float32))
        parts += [_vectors(table, column, length) for column, length in self.lengths.items()]
        return np.concatenate(parts, axis=1)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for `restore`."""
        moments = {name: list(values) for name, values in self.moments.items()}
        return {"numbers": moments, "vectors": dict(self.lengths)}

    @classmethod
    def restore(cls, data: Mapping[str, Any]) -> "ItemNumbers":
        """Restore the encoder from the output of `to_json`."""
        moments = {name: (mean, deviation) for name, (mean, deviation) in data["numbers"].items()}
        return cls(moments, dict(data["vectors"]))


def _numbers(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    """A column as float64, NaN for null."""
    kind = table.schema.field(column).type
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    if not any(test(kind) for test in (*numeric, pa.types.is_null)):
        raise SchemaError(
            f"number({column}) reads a number, but column {column!r} is of type {kind}; declare "
            f"`{column}` itself, or cast it to double"
        )
    values = table.column(column)
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    found = values.cast(pa.float64()).to_numpy()
    return np.where(np.isfinite(found), found, np.nan)


def _moments(table: pa.Table, column: str) -> tuple[float, float]:
    """Mean and standard deviation of a column; the deviation is 1 where all values are equal."""
    values = _numbers(table, column)
    known = values[~np.isnan(values)]
    if not len(known):
        return 0.0, 1.0
    return float(known.mean()), float(known.std()) or 1.0


def _vectors(table: pa.Table, column: str, width: int | None) -> Floats:
    """A column of arrays of numbers as a matrix; zeros for null."""
    kind = table.schema.field(column).type
    lists = table.column(column).combine_chunks()
    nested = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (nested or pa.types.is_fixed_size_list(kind)) or not (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    ):
        raise SchemaError(
            f"vector({column}) reads an array of numbers, but column {column!r} is of type {kind}"
        )
    present = np.flatnonzero(lists.is_valid().to_numpy(zero_copy_only=False))
    lengths = pa.compute.list_value_length(lists.take(pa.array(present))).to_numpy()
    wanted = int(lengths[0]) if width is None and len(lengths) else (width or 0)
    if (lengths != wanted).any():
        odd = int(lengths[lengths != wanted][0])
        raise DataError(
            f"the vectors of column {column!r} must have one length: an item has {odd:,} numbers, "
            f"not {wanted:,}"
        )
    flat = lists.take(pa.array(present)).flatten().cast(pa.float32())
    values = flat.to_numpy(zero_copy_only=False).reshape(len(present), wanted)
    if not np.isfinite(values).all():
        raise DataError(f"a vector of column {column!r} has a number that is missing or infinite")
    matrix = np.zeros((table.num_rows, wanted), np.float32)
    matrix[present] = values
    return matrix

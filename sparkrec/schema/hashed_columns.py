"""Hashes Arrow columns; each distinct value is hashed once, without a Python loop over rows."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparkrec.errors import SchemaError
from sparkrec.schema.hashing import NO_HASH, bkdr, combine, hash_text
from sparkrec.schema.parser import Feature, FeatureSchema

MAX_FEATURE_WIDTH = 4096


@dataclass(frozen=True)
class HashedColumn:
    """A column as codes into its distinct values, so that each value is hashed once.

    Attributes
    ----------
    codes
        Integers [rows, width]; 0 is padding. The width is 1 for a scalar column, and the length of
        the longest list for a list column (at least 1, at most the limit), padded on the right.
    values
        uint64 [1 + distinct], BKDR of the value of each code; the first is not used.
    """

    codes: np.ndarray
    values: np.ndarray

    def field(self, name: str) -> np.ndarray:
        """The field hash of each code under a name, uint64 [1 + distinct]; `NO_HASH` for 0."""
        hashes = combine(np.array([hash_text(f"{name}=")], np.uint64), self.values)
        hashes[0] = NO_HASH
        return hashes


def hash_column(array: pa.Array, column: str, limit: int | None = None) -> HashedColumn:
    """Hash a column of scalars, or of lists, of which the last `limit` values are used.

    Parameters
    ----------
    array
        [rows] of text, integers or booleans, or of lists of these; nulls are allowed.
    column
        Its name, for messages.
    limit
        Maximum number of values of a list; the last values are used, because histories are oldest
        first. None for a scalar column.

    Raises
    ------
    SchemaError
        The column has a type without a defined text form, or it has lists where scalars are
        expected, or the reverse.
    """
    check_type(array.type, column, is_list=limit is not None)
    if pa.types.is_null(array.type):
        return HashedColumn(np.zeros((len(array), 1), np.int32), np.zeros(1, np.uint64))
    if limit is None:
        codes, values = _codes(array)
        return HashedColumn(codes[:, None], values)
    codes, values = _codes(array.flatten())
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    filled = np.concatenate(([0], np.cumsum(codes != 0)))
    ends = np.cumsum(lengths, dtype=np.int64)
    counts = filled[ends] - filled[ends - lengths]
    return HashedColumn(_last(codes[codes != 0], counts, limit), values)


def hash_feature(feature: Feature, columns: Mapping[str, HashedColumn]) -> np.ndarray:
    """Compute a feature's hashes in every row: the Cartesian product of its columns' values.

    Returns
    -------
    np.ndarray
        uint64 [rows, product of the columns' widths], padded with `NO_HASH` on the right. The first
        column varies slowest.
    """
    hashes: np.ndarray | None = None
    wide = 0
    for column, name in zip(feature.columns, feature.names, strict=True):
        hashed = columns[column]
        x = hashed.field(name)[hashed.codes]
        wide += x.shape[1] > 1
        if hashes is None:
            hashes = x
            continue
        h, x = hashes[:, :, None], x[:, None, :]
        crossed = np.where((h != NO_HASH) & (x != NO_HASH), combine(h, x), np.uint64(NO_HASH))
        hashes = crossed.reshape(len(crossed), crossed.shape[1] * crossed.shape[2])
    assert hashes is not None
    if wide > 1:  # short lists leave gaps between the products
        order = np.argsort(hashes == NO_HASH, axis=1, kind="stable")
        hashes = np.take_along_axis(hashes, order, axis=1)
    return hashes


def hash_columns(
    schema: FeatureSchema, batch: pa.RecordBatch, widths: Mapping[str, int]
) -> dict[str, HashedColumn]:
    """Hash the columns that a schema's features read.

    Parameters
    ----------
    schema
        The tower's columns and features.
    batch
        The data.
    widths
        Maximum number of values of each list column; the other columns are scalars.

    Raises
    ------
    SchemaError
        A column is missing, or not of a type or kind that can be hashed.
    """
    schema.require(batch.schema.names, "the data", used_only=True)
    return {
        column: hash_column(batch.column(column), column, widths.get(column))
        for column in schema.used_columns
    }


def distinct_hashes(
    schema: FeatureSchema, columns: Mapping[str, HashedColumn], bucketed: Iterable[str] = ()
) -> np.ndarray:
    """The distinct hashes in hashed columns, of all features without buckets; uint64, sorted.

    Crosses wider than `MAX_FEATURE_WIDTH` are left out, because no encoder accepts them.
    """
    found = [np.zeros(0, np.uint64)]
    bucketed = set(bucketed)
    for feature in schema.features:
        if feature.name in bucketed:
            continue
        if len(feature.columns) == 1:
            hashed = columns[feature.columns[0]]
            present = np.zeros(len(hashed.values), bool)
            present[hashed.codes] = True
            found.append(hashed.field(feature.names[0])[present])
        elif math.prod(columns[c].codes.shape[1] for c in feature.columns) <= MAX_FEATURE_WIDTH:
            found.append(np.unique(hash_feature(feature, columns)))
    hashes = np.unique(np.concatenate(found))
    return hashes[hashes != NO_HASH]


def is_list_type(dtype: pa.DataType) -> bool:
    """Whether an Arrow type holds a list of values in each row."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(dtype) for test in tests)


def check_type(dtype: pa.DataType, column: str, is_list: bool) -> None:
    """Check that a column can be hashed and is a list or a scalar as expected.

    Raises
    ------
    SchemaError
        The type cannot be hashed, or is of the other kind; the message says what to do.
    """
    if pa.types.is_null(dtype):
        return  # only nulls: padding, for lists and for scalars
    if is_list_type(dtype) != is_list:
        found, expected = ("lists", "single values") if not is_list else ("single values", "lists")
        raise SchemaError(
            f"column {column!r} holds {found} ({dtype}), but held {expected} when the encoder was "
            "fitted; give it the same type, or fit the encoder again"
        )
    value = dtype.value_type if is_list else dtype
    if pa.types.is_dictionary(value):
        value = value.value_type
    hashable = (
        pa.types.is_null,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
    )
    if not any(test(value) for test in hashable):
        raise unhashable(column, str(dtype))


def unhashable(column: str, dtype: str) -> SchemaError:
    """The error for a column of a type without a defined text form."""
    return SchemaError(
        f"column {column!r} is of type {dtype}, which cannot be hashed; cast it to string or "
        "bigint (pandas makes a float column of integers with nulls: cast it to Int64 there), or "
        "turn it into buckets first"
    )


def _codes(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Encode as codes [n] (0 for null and empty) into BKDR hashes [1 + distinct]."""
    if pa.types.is_null(array.type):
        return np.zeros(len(array), np.int32), np.zeros(1, np.uint64)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    encoded = array.dictionary_encode()
    indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    texts = encoded.dictionary.cast(pa.large_string())
    position = np.arange(len(texts) + 1, dtype=np.int32)
    position[1:][pc.binary_length(texts).to_numpy(zero_copy_only=False) == 0] = 0
    values = np.concatenate((np.zeros(1, np.uint64), bkdr(texts)))
    return position[indices + 1], values


def _last(flat: np.ndarray, counts: np.ndarray, limit: int) -> np.ndarray:
    """Arrange flat lists as a matrix: the last `limit` values of each, padded on the right."""
    kept = np.minimum(counts, limit)
    width = max(1, int(kept.max(initial=0)))
    to_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(flat))
    matrix = np.zeros((len(counts), width), np.int32)
    # Both sides are in row order, so each value is assigned to its place.
    matrix[np.arange(width) < kept[:, None]] = flat[to_end <= limit]
    return matrix

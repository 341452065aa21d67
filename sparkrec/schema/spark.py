"""Fits the encoder to DataFrames on Spark."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from sparkrec.errors import DataError, SchemaError
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.hashed_columns import distinct_hashes, hash_columns, unhashable
from sparkrec.schema.parser import FeatureSchema
from sparkrec.spark_versions import to_arrow

_VALUES = (T.ByteType, T.ShortType, T.IntegerType, T.LongType, T.StringType, T.BooleanType)

# A report of the executors: its kind, the frame or column it is about, and a value.
_ROWS, _LENGTH, _HASH = 0, 1, 2
_REPORT = "kind int, of_which int, value long"


def fit_encoder(
    dataframes: Sequence[DataFrame],
    schema: FeatureSchema,
    max_list_length: int = 64,
    buckets: Mapping[str, int] | None = None,
    previous: FeatureEncoder | None = None,
) -> FeatureEncoder:
    """Build the vocabulary of a tower from its training data.

    Parameters
    ----------
    dataframes
        One or more frames that each have the schema's columns, with integers, text or booleans, or
        arrays of these.
    schema
        The tower's columns and features.
    max_list_length
        Maximum number of values of a list. The width of a list column is the length of its longest
        list, up to this.
    buckets
        Number of rows by feature, for features whose values are assigned to rows by hash modulo
        instead of a vocabulary.
    previous
        An encoder to grow: its rows, widths and buckets do not change, and new values get rows
        after them.

    Returns
    -------
    FeatureEncoder
        It does not depend on the partitions of the data, because new hashes are sorted.

    Raises
    ------
    SchemaError
        A column is missing or of the wrong type, buckets are wrong, or `previous` has other
        features or buckets.
    DataError
        A data frame has no rows.

    Notes
    -----
    One pass over each frame, in one Spark job. The driver collects the distinct hashes, 16 bytes
    each, except those of bucketed features. Crosses of two lists need 8 bytes for each pair and row
    of an Arrow batch; if memory is short, lower `spark.sql.execution.arrow.maxRecordsPerBatch`.
    """
    if not dataframes:
        raise DataError("no data frame to fit the encoder to; give at least one")
    if max_list_length < 1:
        raise SchemaError(f"max_list_length needs to be at least 1, not {max_list_length}")
    for number, frame in enumerate(dataframes, start=1):
        schema.require(frame.columns, f"data frame {number} of {len(dataframes)}")
    lists = _list_columns(dataframes, schema)
    if previous is None:
        limits = dict.fromkeys(lists, max_list_length)
        sizes = dict(buckets or {})
        FeatureEncoder(schema, {}, np.zeros(0, np.uint64), sizes)  # raises for wrong buckets
    else:
        _check_grows(previous, schema, lists, buckets)
        limits, sizes = previous.widths, previous.buckets

    reports = [
        _observe(frame, number, schema, limits, list(sizes))
        for number, frame in enumerate(dataframes)
    ]
    report = to_arrow(reduce(DataFrame.unionAll, reports).distinct())
    kind, of_which, value = (column.to_numpy() for column in report.columns)
    for number in range(len(dataframes)):
        if not np.any((kind == _ROWS) & (of_which == number)):
            raise DataError(
                f"data frame {number + 1} of {len(dataframes)} is empty: there is nothing to fit "
                "the encoder to; check the path and the filters before it"
            )

    hashes = value[kind == _HASH].view(np.uint64)
    if previous is not None:
        return previous.grow(hashes)
    widths = {
        column: int(value[(kind == _LENGTH) & (of_which == schema.columns.index(column))].max())
        for column in lists
    }
    return FeatureEncoder(schema, widths, np.zeros(0, np.uint64), sizes).grow(hashes)


def _observe(
    frame: DataFrame,
    number: int,
    schema: FeatureSchema,
    limits: Mapping[str, int],
    bucketed: Sequence[str],
) -> DataFrame:
    """Report for each Arrow batch that it has rows, the longest list of each column, and hashes."""
    columns = schema.columns

    def observe(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows == 0:
                continue
            hashed = hash_columns(schema, batch, limits)
            hashes = distinct_hashes(schema, hashed, bucketed).view(np.int64)
            lengths = [hashed[c].codes.shape[1] for c in limits]
            kind = [_ROWS] + [_LENGTH] * len(limits)
            of_which = [number] + [columns.index(c) for c in limits]
            parts = (
                np.append(kind, np.full(len(hashes), _HASH)).astype(np.int32),
                np.append(of_which, np.zeros(len(hashes))).astype(np.int32),
                np.append(np.array([0, *lengths], np.int64), hashes),
            )
            yield pa.RecordBatch.from_arrays(
                [pa.array(part) for part in parts], ["kind", "of_which", "value"]
            )

    return frame.select(*schema.used_columns).mapInArrow(observe, _REPORT)


def _list_columns(dataframes: Sequence[DataFrame], schema: FeatureSchema) -> list[str]:
    """The used columns that have arrays, in the order of the schema. Checks all types."""
    lists: dict[str, bool] = {}
    for frame in dataframes:
        for column in schema.used_columns:
            dtype = frame.schema[column].dataType
            is_list = isinstance(dtype, T.ArrayType)
            value = dtype.elementType if isinstance(dtype, T.ArrayType) else dtype
            if not isinstance(value, _VALUES):
                raise unhashable(column, dtype.simpleString())
            if lists.setdefault(column, is_list) != is_list:
                raise SchemaError(
                    f"column {column!r} holds arrays in one data frame and single values in "
                    f"another ({dtype.simpleString()}); give it one type"
                )
    return [column for column, is_list in lists.items() if is_list]


def _check_grows(
    previous: FeatureEncoder,
    schema: FeatureSchema,
    lists: Sequence[str],
    buckets: Mapping[str, int] | None,
) -> None:
    """Check that the layout of the table stays the same, which growing needs."""
    if schema.features != previous.schema.features:
        raise SchemaError(
            f"{schema.source}: the features differ from those of the encoder to grow; keep them, "
            "or train from the start"
        )
    if buckets is not None and dict(buckets) != previous.buckets:
        raise SchemaError(
            f"buckets {dict(buckets)} differ from those of the encoder to grow, "
            f"{previous.buckets}; keep them, or train from the start"
        )
    for column in schema.used_columns:
        if (column in lists) != (column in previous.widths):
            now, then = ("arrays", "single values") if column in lists else ("values", "arrays")
            raise SchemaError(
                f"column {column!r} holds {now}, but held {then} when the encoder was fitted; give "
                "it the same type, or fit the encoder again"
            )

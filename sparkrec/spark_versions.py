"""Calls that Spark 3.5 lacks, each with its replacement.

Some replacements use what only 3.5 has, so the tests have to run there too: `make test-spark35`.
"""

import contextlib
from typing import Any, cast

import numpy as np
import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.serializers import ArrowStreamSerializer
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import DataType

# The seed with which Spark hashes the columns of `repartition`.
_SEED = 42


def to_arrow(frame: DataFrame) -> pa.Table:
    """Collect a frame as an Arrow table (`DataFrame.toArrow`, from Spark 4.0)."""
    if hasattr(frame, "toArrow"):
        return frame.toArrow()
    batches = cast(Any, frame)._collect_as_arrow()
    return pa.Table.from_batches(batches, to_arrow_schema(frame.schema))


def from_arrow(spark: SparkSession, table: pa.Table) -> DataFrame:
    """Make a frame of an Arrow table (`createDataFrame` of a table, from Spark 4.0).

    In Spark 3.5 a timestamp without a zone is taken for one in UTC, which is the zone of the
    sessions that sparkrec opens.
    """
    if hasattr(DataFrame, "toArrow"):
        return spark.createDataFrame(table)
    session = cast(Any, spark)
    jvm = session._jvm
    schema = from_arrow_schema(table.schema)
    rows = max(1, -(-table.num_rows // session.sparkContext.defaultParallelism))
    batches = session.sparkContext._serialize_to_jvm(
        table.cast(to_arrow_schema(schema)).combine_chunks().to_batches(rows),
        ArrowStreamSerializer(),
        jvm.PythonSQLUtils.readArrowStreamFromFile,
        jvm.ArrowIteratorServer,
    )
    frame = jvm.PythonSQLUtils.toDataFrame(batches, schema.json(), session._jsparkSession)
    return DataFrame(frame, spark)


def try_cast(value: Column, to: str | DataType) -> Column:
    """Cast a column; null where that is impossible (`Column.try_cast`, from Spark 4.0)."""
    if hasattr(Column, "try_cast"):
        return value.try_cast(to)
    session = cast(Any, SparkSession.getActiveSession())
    spark = session._jvm.org.apache.spark.sql
    kind = (
        spark.types.DataType.fromDDL(to)
        if isinstance(to, str)
        else session._jsparkSession.parseDataType(to.json())
    )
    no_zone = session._jvm.scala.Option.empty()
    expressions = spark.catalyst.expressions
    tried = expressions.Cast(cast(Any, value)._jc.expr(), kind, no_zone, expressions.EvalMode.TRY())
    return Column(spark.Column(tried))


def is_valid_utf8(text: Column) -> Column:
    """Whether the bytes of a text are UTF-8 (`functions.is_valid_utf8`, from Spark 4.0)."""
    if hasattr(F, "is_valid_utf8"):
        return F.is_valid_utf8(text)
    # Spark 3.5 decodes what is no UTF-8 as U+FFFD.
    return F.decode(text.cast("binary"), "UTF-8") == text


def repartition_by_id(frame: DataFrame, number: int, ids: Column) -> DataFrame:
    """Send each row to the partition that it names (`repartitionById`, from Spark 4.1).

    Parameters
    ----------
    number
        Number of partitions.
    ids
        Integers from 0 to `number` - 1.
    """
    if hasattr(frame, "repartitionById"):
        return frame.repartitionById(number, ids.cast("int"))
    return repartition_by_hash(frame, number, ids)


def repartition_by_hash(frame: DataFrame, number: int, ids: Column) -> DataFrame:
    """What `repartition_by_id` does before Spark 4.1.

    `repartition` sends a row to the partition `hash(column) mod number`. So each id is replaced by
    an integer that this sends to the partition with that id.
    """
    keys = F.lit([int(key) for key in _keys_of_partitions(number)])
    return frame.repartition(number, F.element_at(keys, ids.cast("int") + 1))


def condition(error: PySparkException) -> str:
    """Name of the error, such as `TABLE_OR_VIEW_NOT_FOUND` (`getCondition`, from Spark 4.0)."""
    get = getattr(error, "getCondition", None) or error.getErrorClass
    return str(get() or type(error).__name__)


def set_query_log_level(level: int) -> None:
    """Set the level of the loggers that Spark 4 writes errors to before it raises them."""
    with contextlib.suppress(ImportError):
        from pyspark.logger import PySparkLogger

        for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
            PySparkLogger.getLogger(name).setLevel(level)


def _keys_of_partitions(number: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """For each partition an integer that Spark sends to it."""
    keys = np.full(number, -1, np.int32)
    start = 0
    while (keys < 0).any():
        tried = np.arange(start, start + 8 * number + 64, dtype=np.int32)
        keys[murmur3(tried) % number] = tried
        start += len(tried)
    return keys


def murmur3(values: np.ndarray[Any, np.dtype[np.int32]]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Spark's hash of 32-bit integers (`functions.hash`): Murmur3, x86, 32 bits."""
    mixed = _rotated(values.view(np.uint32) * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    state = _rotated(np.uint32(_SEED) ^ mixed, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    state ^= np.uint32(4)  # the length in bytes
    state = (state ^ (state >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    state = (state ^ (state >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (state ^ (state >> np.uint32(16))).view(np.int32)


def _rotated(
    values: np.ndarray[Any, np.dtype[np.uint32]], bits: int
) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return (values << np.uint32(bits)) | (values >> np.uint32(32 - bits))

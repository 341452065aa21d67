"""What differs between versions of Spark: the same results from each way of getting them."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import IntegerType

from sparkrec.spark_versions import (
    condition,
    from_arrow,
    is_valid_utf8,
    murmur3,
    repartition_by_hash,
    repartition_by_id,
    set_query_log_level,
    to_arrow,
    try_cast,
)


def test_to_arrow(spark: SparkSession) -> None:
    frame = spark.sql(
        "SELECT id, CAST(id AS STRING) AS text, array(id, NULL) AS list, "
        "TIMESTAMP '2020-01-01 00:00:00' AS at FROM range(5)"
    )
    table = to_arrow(frame)
    assert table.column("id").to_pylist() == list(range(5))
    assert table.column("list").to_pylist() == [[n, None] for n in range(5)]
    assert table.schema.field("at").type == pa.timestamp("us", "UTC")
    empty = to_arrow(frame.where("id < 0"))
    assert empty.num_rows == 0 and empty.schema.equals(table.schema)


def test_from_arrow(spark: SparkSession) -> None:
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    table = pa.table(
        {
            "id": pa.array([1, None, 3], pa.int32()),
            "text": pa.array(["a", "", None], pa.large_string()),
            "list": [[1, None], [], None],
            "at": pa.array([moment, None, moment], pa.timestamp("ms", "UTC")),
        }
    )
    frame = from_arrow(spark, table)
    kinds = {"id": "int", "text": "string", "list": "array<bigint>", "at": "timestamp"}
    assert dict(frame.dtypes) == kinds
    read = to_arrow(frame)
    assert read.drop(["at"]).to_pylist() == table.drop(["at"]).to_pylist()
    assert read.column("at").to_pylist() == [moment, None, moment]
    assert from_arrow(spark, table.slice(0, 0)).collect() == []
    long = pa.table({"n": range(25_000)})
    assert to_arrow(from_arrow(spark, long)).column("n").to_pylist() == list(range(25_000))


def test_try_cast(spark: SparkSession) -> None:
    rows = [("1",), (" 2 ",), ("x",), ("99999999999",), ("1e1",), (None,)]
    text = spark.createDataFrame(rows, "text string")
    number = try_cast(F.col("text"), "int")
    assert [row[0] for row in text.select(number).collect()] == [1, 2, None, None, None, None]
    # A cast without "try" wraps around, or fails, as the version and its settings have it.
    large = spark.createDataFrame([(2**31,), (7,)], "n bigint").select(
        try_cast(F.col("n"), IntegerType())
    )
    assert [row[0] for row in large.collect()] == [None, 7]


def test_is_valid_utf8(spark: SparkSession) -> None:
    values = [b"plain", "caf\u00e9 \ufffd \U0001f600".encode(), b"", b"caf\xe9", b"\xed\xa0\x80"]
    frame = from_arrow(spark, pa.table({"raw": pa.array(values, pa.binary())}))
    text = F.expr("CAST(raw AS STRING)")
    found = [row[0] for row in frame.select(is_valid_utf8(text)).collect()]
    assert found == [True, True, True, False, False]


@pytest.mark.parametrize("way", [repartition_by_id, repartition_by_hash])
@pytest.mark.parametrize("number", [1, 2, 7, 300])
def test_repartition_by_id(
    spark: SparkSession, way: Callable[[DataFrame, int, Column], DataFrame], number: int
) -> None:
    frame = spark.range(3 * number).select((F.col("id") % number).alias("n"))
    parts = way(frame, number, F.col("n"))
    assert parts.rdd.getNumPartitions() == number
    pairs = parts.select("n", F.spark_partition_id()).collect()
    assert len(pairs) == 3 * number
    assert all(n == partition for n, partition in pairs)


def test_murmur3_is_the_hash_of_spark(spark: SparkSession) -> None:
    values = np.array([0, 1, -1, 42, 2**31 - 1, -(2**31), 123_456_789], np.int32)
    frame = spark.createDataFrame([(int(value),) for value in values], "value int")
    assert murmur3(values).tolist() == [row[0] for row in frame.select(F.hash("value")).collect()]


def test_condition(spark: SparkSession) -> None:
    with pytest.raises(AnalysisException) as caught:
        spark.sql("SELECT * FROM nowhere")
    assert condition(caught.value) == "TABLE_OR_VIEW_NOT_FOUND"
    assert condition(AnalysisException("text")) == "AnalysisException"


def test_errors_of_queries_are_not_logged_twice() -> None:
    pytest.importorskip("pyspark.logger", reason="Spark 3.5 does not log them")
    logger = logging.getLogger("DataFrameQueryContextLogger")
    set_query_log_level(logging.ERROR)
    assert logger.isEnabledFor(logging.ERROR)
    set_query_log_level(logging.CRITICAL)
    assert not logger.isEnabledFor(logging.ERROR)

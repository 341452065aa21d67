"""Fitting and encoding on Spark, against serving in plain Python."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.errors import DataError, SchemaError
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.hashing import hash_value
from sparkrec.schema.parser import feature_schema
from sparkrec.schema.spark import fit_encoder
from sparkrec.spark_versions import to_arrow

TYPES = "key long, user_id string, recent array<int>, tags array<string>, age int, member boolean"
SCHEMA = feature_schema(
    "user_id\nrecent\ntags\nage\nmember",
    "user_columns",
    "user_id\nrecent\ntags\nage\nmember\nage#member\nrecent#tags",
    "user_combine",
)


@pytest.fixture(scope="module")
def users(spark: SparkSession) -> DataFrame:
    rows = [
        (
            i,
            None if i % 7 == 0 else f"用户{i % 11}",
            None if i % 5 == 0 else list(range(i % 9)),
            [None, "", "x", f"t{i % 3}"][: i % 5],
            i % 4,
            None if i % 3 == 0 else i % 2 == 0,
        )
        for i in range(60)
    ]
    return spark.createDataFrame(rows, TYPES).repartition(3)


@pytest.fixture(scope="module")
def encoder(users: DataFrame) -> FeatureEncoder:
    return fit_encoder([users], SCHEMA, max_list_length=4, buckets={"user_id": 16})


def test_fit_finds_widths_and_vocabulary(users: DataFrame, encoder: FeatureEncoder) -> None:
    assert encoder.widths == {"recent": 4, "tags": 2}  # tags: at most two that are not empty
    local = to_arrow(users)
    assert encoder.hashes.tolist() == encoder.distinct_hashes(local).tolist()
    assert hash_value("user_id", "用户1") not in encoder.hashes.tolist()
    again = fit_encoder([users.repartition(1)], SCHEMA, 4, {"user_id": 16})
    assert again.hashes.tolist() == encoder.hashes.tolist()


def test_spark_and_serving_agree(users: DataFrame, encoder: FeatureEncoder) -> None:
    def encode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            matrix = pa.array(encoder.encode(batch).tolist())
            yield pa.RecordBatch.from_arrays([batch["key"], matrix], ["key", "rows"])

    encoded = users.mapInArrow(encode, "key long, rows array<long>").collect()
    on_spark = {row.key: row.rows for row in encoded}
    rows = [row.asDict() for row in users.collect()]
    served = encoder.encode_rows(rows)
    assert len(on_spark) == 60
    for row, expected in zip(rows, served.tolist(), strict=True):
        assert on_spark[row["key"]] == expected
    assert 1 not in served


def test_several_frames_and_growth(users: DataFrame) -> None:
    schema = feature_schema("recent\nage", "columns", "recent\nage", "combine")
    old, new = users.where("age < 2"), users.where("age >= 2")
    both = fit_encoder([old, new], schema)
    assert both.num_rows == 2 + 8 + 4
    first = fit_encoder([old.where("size(recent) < 4")], schema)
    grown = fit_encoder([new], schema, previous=first)
    assert grown.widths == first.widths
    assert grown.hashes[: len(first.hashes)].tolist() == first.hashes.tolist()
    assert grown.num_rows > first.num_rows


def test_grown_encoders_keep_their_layout(users: DataFrame, encoder: FeatureEncoder) -> None:
    other = feature_schema("age", "columns", "age", "combine")
    with pytest.raises(SchemaError, match="the features differ"):
        fit_encoder([users], other, previous=encoder)
    with pytest.raises(SchemaError, match=r"buckets \{\} differ"):
        fit_encoder([users], SCHEMA, buckets={}, previous=encoder)
    with pytest.raises(SchemaError, match="'age' holds arrays, but held single values"):
        fit_encoder([users.withColumn("age", F.array("age"))], SCHEMA, previous=encoder)
    with pytest.raises(SchemaError, match="'recent' holds values, but held arrays"):
        fit_encoder([users.withColumn("recent", F.lit(1))], SCHEMA, previous=encoder)


def test_empty_frames_are_data_errors(users: DataFrame) -> None:
    with pytest.raises(DataError, match="data frame 2 of 2 is empty"):
        fit_encoder([users, users.where("false")], SCHEMA)
    with pytest.raises(DataError, match="give at least one"):
        fit_encoder([], SCHEMA)


def test_wrong_columns_fail_on_the_driver(users: DataFrame) -> None:
    with pytest.raises(SchemaError, match=r"lacks the column 'age' .*did you mean 'ages'"):
        fit_encoder([users.withColumnRenamed("age", "ages")], SCHEMA)
    with pytest.raises(SchemaError, match="'age' is of type double, which cannot be hashed"):
        fit_encoder([users.withColumn("age", F.col("age").cast("double"))], SCHEMA)
    with pytest.raises(SchemaError, match="'age' holds arrays in one data frame"):
        fit_encoder([users, users.withColumn("age", F.array("age"))], SCHEMA)
    with pytest.raises(SchemaError, match="'user' is not a feature; did you mean 'user_id'"):
        fit_encoder([users], SCHEMA, buckets={"user": 4})


def test_crosses_too_wide_are_refused(spark: SparkSession) -> None:
    schema = feature_schema("a\nb", "columns", "a#b", "combine")
    long = F.sequence(F.lit(1), F.lit(80))
    frame = spark.range(2).select(long.alias("a"), long.alias("b"))
    with pytest.raises(SchemaError, match="'a#b' would be 6400 rows wide"):
        fit_encoder([frame], schema, max_list_length=80)


def test_any_name_that_parses_works_on_spark(spark: SparkSession) -> None:
    schema = feature_schema("年龄-1", "columns", "年龄-1", "combine")
    frame = spark.range(3).withColumnRenamed("id", "年龄-1")
    encoder = fit_encoder([frame], schema)
    assert sorted(encoder.encode(to_arrow(frame)).tolist()) == [[2], [3], [4]]

"""encode_rows: what is written, in which order, in how many row groups, and what is refused."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.encode import Encoded, encode_rows, fixed_width
from sparkrec.encoding.sides import QueryEncoder
from sparkrec.errors import DataError
from sparkrec.feed._petastorm import parquet_files
from sparkrec.io.outputs import is_published, read_manifest
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.parser import feature_schema
from sparkrec.spark_versions import to_arrow

USERS, ITEMS = 40, 9
SCHEMA = feature_schema("user_id\nrecent", "columns", "user_id\nrecent", "combine")


def catalogue() -> Catalogue:
    return Catalogue(pa.array(range(100, 100 + ITEMS)), np.ones(ITEMS, np.int64))


def encoder() -> QueryEncoder:
    table = pa.table(
        {
            "user_id": range(USERS),
            "recent": pa.array([[100 + i % ITEMS] for i in range(USERS)], pa.list_(pa.int64())),
        }
    )
    empty = FeatureEncoder(SCHEMA, {"recent": 2}, np.zeros(0, np.uint64))
    return QueryEncoder(SCHEMA, empty.grow(empty.distinct_hashes(table)), catalogue())


@dataclass(frozen=True, eq=False)
class NotingEncoder(QueryEncoder):
    """Leaves a file for every batch that it encodes, named for the number of its rows."""

    folder: Path = Path()

    def encode(self, table: pa.Table | pa.RecordBatch) -> npt.NDArray[np.int64]:
        (self.folder / f"{table.num_rows}-{uuid.uuid4()}").touch()
        return super().encode(table)


def rows(spark: SparkSession, count: int = 400) -> DataFrame:
    """Every fourth row has one negative fewer than the others; every tenth is held out."""
    return spark.range(count).selectExpr(
        f"id % {USERS} AS user_id",
        f"array(100 + id % {ITEMS}, 100 + (id + 1) % {ITEMS}) AS recent",
        f"100 + (id * 7) % {ITEMS} AS item_id",
        "id AS position",
        f"if(id % 4 = 0, array(100 + id % {ITEMS}), "
        f"array(100 + id % {ITEMS}, 100 + (id + 5) % {ITEMS})) AS negatives",
        "id % 10 = 0 AS is_validation",
    )


def encode(train: DataFrame, path: Path, workers: int = 1, seed: int = 1) -> Encoded:
    return encode_rows(train, "item_id", encoder(), str(path), workers, seed)


def read(path: str) -> pa.Table:
    files = parquet_files(pyarrow.fs.LocalFileSystem(), path)
    return pa.concat_tables([pyarrow.parquet.ParquetFile(file).read() for file in files])


def groups(path: str) -> list[int]:
    files = parquet_files(pyarrow.fs.LocalFileSystem(), path)
    found = [pyarrow.parquet.read_metadata(file) for file in files]
    return [meta.row_group(i).num_rows for meta in found for i in range(meta.num_row_groups)]


def expected(train: DataFrame) -> list[tuple[int, ...]]:
    """The encoded rows, sorted."""
    return sorted(ordered(train))


def ordered(train: DataFrame) -> list[tuple[int, ...]]:
    """The encoded rows, by a loop over the raw ones."""
    table = to_arrow(train)
    users = encoder().encode(table)
    lines = []
    for user, row in zip(users.tolist(), table.to_pylist(), strict=True):
        negatives = [item - 98 for item in row["negatives"]]
        lines.append((*user, row["item_id"] - 98, *negatives, *[0] * (2 - len(negatives))))
    return lines


def lines_of(table: pa.Table) -> list[tuple[int, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def test_rows_and_fields(spark: SparkSession, tmp_path: Path) -> None:
    train = rows(spark).cache()
    encoded = encode(train, tmp_path / "my rows")
    assert encoded.fields == {"user": 3, "item": 0, "negatives": 2}
    assert encoded.rows == 400
    table = read(encoded.path)
    names = ["user_0", "user_1", "user_2", "item", "negatives_0", "negatives_1"]
    assert table.column_names == names
    assert set(table.schema.types) == {pa.int64()}
    assert sorted(lines_of(table)) == expected(train)
    held_out = read(str(tmp_path / "my rows" / "held_out"))
    assert sorted(lines_of(held_out)) == expected(train.where("is_validation"))
    fit = read(encoded.fit_path)
    assert sorted(lines_of(fit)) == expected(train.where("NOT is_validation"))
    assert read_manifest(encoded.path)["rows"] == 400


def test_every_part_has_its_own_rows_in_their_order(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File by file as Spark places the raw rows of the part."""
    monkeypatch.setattr("sparkrec.encoding.encode._ROWS_PER_GROUP", 100)
    train = rows(spark, 700).cache()
    encoded = encode(train, tmp_path / "rows", workers=2, seed=3)
    hashed = [name for name in sorted(train.columns) if name != "is_validation"]
    keyed = train.withColumn("key", F.xxhash64(F.lit(3), *hashed))
    for part, mark, files in (("fit", False, 8), ("held_out", True, 2)):
        raw = keyed.where(F.col("is_validation") == mark).repartition(files, "key")
        placed = raw.sortWithinPartitions("key").withColumn("file", F.spark_partition_id())
        wanted = [ordered(placed.where(f"file = {file}")) for file in range(files)]
        paths = parquet_files(pyarrow.fs.LocalFileSystem(), f"{encoded.path}/{part}")
        found = [lines_of(pyarrow.parquet.ParquetFile(path).read()) for path in sorted(paths)]
        assert found == wanted


def test_every_row_is_encoded_once(spark: SparkSession, tmp_path: Path) -> None:
    noting = NotingEncoder(SCHEMA, encoder().features, catalogue(), folder=tmp_path / "noted")
    noting.folder.mkdir()
    encode_rows(rows(spark), "item_id", noting, str(tmp_path / "rows"), 1, 1)
    counts = [int(path.name.split("-")[0]) for path in noting.folder.iterdir()]
    assert sum(counts) == 400


def test_short_negatives_are_padded_with_zeros(spark: SparkSession, tmp_path: Path) -> None:
    table = read(encode(rows(spark), tmp_path / "rows").path)
    assert sum(value == 0 for value in table.column("negatives_1").to_pylist()) == 100
    assert min(table.column("negatives_0").to_pylist()) >= 2


def test_without_a_mark_nothing_is_held_out(spark: SparkSession, tmp_path: Path) -> None:
    encoded = encode(rows(spark, 50).drop("is_validation"), tmp_path / "rows")
    assert sum(groups(encoded.fit_path)) == encoded.rows == 50
    assert not (tmp_path / "rows" / "held_out").exists()


def test_every_worker_gets_an_equal_share(spark: SparkSession, tmp_path: Path) -> None:
    encoded = encode(rows(spark, 4000), tmp_path / "rows", workers=3)
    sizes = groups(encoded.fit_path)
    assert len(sizes) == 3
    assert sum(sizes) == 3600
    assert max(sizes) - min(sizes) < 0.15 * 1200
    assert len(groups(encoded.path)) == 6


def test_long_data_has_a_multiple_of_the_workers_row_groups(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparkrec.encoding.encode._ROWS_PER_GROUP", 100)
    encoded = encode(rows(spark, 700).drop("is_validation"), tmp_path / "rows", workers=2)
    assert len(groups(encoded.fit_path)) == 8


@pytest.mark.slow
def test_the_order_is_random_and_depends_on_the_seed_alone(
    spark: SparkSession, tmp_path: Path
) -> None:
    train = rows(spark)
    one = lines_of(read(encode(train.coalesce(1), tmp_path / "a").path))
    many = lines_of(read(encode(train.repartition(7, "item_id"), tmp_path / "b").path))
    other = lines_of(read(encode(train, tmp_path / "c", seed=2).path))
    assert one == many
    assert one != other
    assert sorted(one) == sorted(other)
    # The first rows are not those of the first users.
    assert len({line[0] for line in one[:40]}) > 15


def test_labelled_rows(spark: SparkSession, tmp_path: Path) -> None:
    train = rows(spark, 60).drop("negatives", "is_validation")
    train = train.selectExpr("*", "position % 3 = 0 AS label")
    encoded = encode(train, tmp_path / "rows")
    assert encoded.fields == {"user": 3, "item": 0, "label": 0}
    table = read(encoded.path)
    assert table.column_names[-1] == "label"
    assert table.schema.field("label").type == pa.int64()
    assert sorted(table.column("label").to_pylist()) == [0] * 40 + [1] * 20


def test_weights_are_written_as_they_are(spark: SparkSession, tmp_path: Path) -> None:
    train = rows(spark, 60).selectExpr("*", "position / 7.0D AS worth")
    path, weight = str(tmp_path / "rows"), F.col("worth")
    encoded = encode_rows(train, "item_id", encoder(), path, 1, 1, weight)
    assert encoded.fields == {"user": 3, "item": 0, "negatives": 2, "weight": 0}
    table = read(encoded.path)
    assert table.schema.field("weight").type == pa.float64()
    lines = [
        (*line, row["worth"]) for line, row in zip(ordered(train), train.collect(), strict=True)
    ]
    assert sorted(lines_of(table)) == sorted(lines)


@pytest.mark.parametrize("label", ["2", "-1", "CAST(NULL AS int)"])
def test_other_labels_are_refused(label: str, spark: SparkSession, tmp_path: Path) -> None:
    train = rows(spark, 20).drop("negatives").selectExpr("*", f"{label} AS label")
    with pytest.raises(Exception, match="`label` is null or neither 0 nor 1"):
        encode(train, tmp_path / "rows")


def test_a_rating_is_no_label(spark: SparkSession, tmp_path: Path) -> None:
    train = rows(spark, 20).drop("negatives").selectExpr("*", "4.5D AS label")
    with pytest.raises(DataError, match="column `label` is double, but must be 0 or 1"):
        encode(train, tmp_path / "rows")


def test_neither_negatives_nor_labels(spark: SparkSession, tmp_path: Path) -> None:
    """Rows of positives alone, for negatives of the batch."""
    encoded = encode(rows(spark, 20).drop("negatives"), tmp_path / "rows")
    assert list(encoded.fields) == ["user", "item"]
    table = pyarrow.parquet.read_table(encoded.path)
    assert table.column_names[-1] == "item"
    assert table.num_rows == encoded.rows == 20


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": "999"}, "a training row has a item_id that no event has"),
        ({"item_id": "CAST(NULL AS long)"}, "a training row has a item_id that no event has"),
        ({"negatives": "array(100L, 999L)"}, "negatives name an item that no event of train has"),
    ],
)
def test_items_that_no_event_has_are_refused(
    columns: dict[str, Any], message: str, spark: SparkSession, tmp_path: Path
) -> None:
    train = rows(spark, 20)
    kept = [name for name in train.columns if name not in columns]
    train = train.selectExpr(*kept, *[f"{value} AS {name}" for name, value in columns.items()])
    with pytest.raises(Exception, match=message):
        encode(train, tmp_path / "rows")
    assert not is_published(str(tmp_path / "rows"))


def test_no_rows_and_no_negatives(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training rows are left"):
        encode(rows(spark, 20).where("is_validation"), tmp_path / "rows")
    nothing = rows(spark, 20).withColumn("negatives", F.slice("negatives", 1, 0))
    with pytest.raises(DataError, match="every array of `negatives` is empty"):
        encode(nothing, tmp_path / "rows")


def test_fixed_width() -> None:
    lists = pa.array([[100, 101], [], None, [108]], pa.list_(pa.int64()))
    matrix = fixed_width(lists, 2, catalogue())
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[2, 3], [0, 0], [0, 0], [10, 0]]
    assert fixed_width(lists.slice(3), 3, catalogue()).tolist() == [[10, 0, 0]]

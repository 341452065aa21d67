"""Published tables: what reading checks, and the hash of a table's content."""

from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.errors import DataError, StorageError
from sparkrec.io import storage
from sparkrec.io.outputs import read_manifest, resolve
from sparkrec.io.publishing import publish
from sparkrec.io.tables import (
    INTEGER_TYPES,
    KEY_TYPES,
    NUMBER_TYPES,
    fingerprint,
    read_table,
    require_columns,
    write_table,
)

SCHEMA = "user_id string, item_id long, rating double, recent array<long>"
ROWS = [("u1", 1, 5.0, [1, 2]), ("u2", 2, None, []), ("u3", 3, 1.5, None), ("é", 4, 0.0, [None])]


@pytest.fixture
def frame(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(ROWS, SCHEMA)


def content(frame: DataFrame, path: Path, files: int | None = 1) -> str:
    return str(write_table(frame, str(path), "job", overwrite=True, files=files)["content"])


@pytest.mark.parametrize("name", ["table", "my table é 100%"])
def test_write_and_read(frame: DataFrame, tmp_path: Path, name: str) -> None:
    path = str(tmp_path / "a b" / name)
    facts = write_table(frame, path, "job", about={"dataset": "d"}, files=2)
    assert (facts["rows"], facts["dataset"]) == (4, "d") and len(facts["content"]) == 16
    manifest = read_manifest(path)
    assert {key: manifest[key] for key in facts} == facts
    assert sum(file["name"].endswith(".parquet") for file in manifest["files"]) == 2
    types = {"user_id": KEY_TYPES, "item_id": INTEGER_TYPES, "rating": NUMBER_TYPES}
    table = read_table(frame.sparkSession, path, "input.train", types)
    assert sorted(tuple(row) for row in table.collect()) == sorted(ROWS)
    assert fingerprint({"train": path}) == {"train": facts["content"]}


def test_write_again(frame: DataFrame, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    write_table(frame, path, "job")
    write_table(frame.limit(1), path, "job")
    assert read_table(frame.sparkSession, path, "x").count() == 1
    with pytest.raises(StorageError, match="made by `job`, not by `other`"):
        write_table(frame, path, "other")


def test_missing_and_unfinished(spark: SparkSession, frame: DataFrame, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"^input\.train: no such path: .*none$"):
        read_table(spark, str(tmp_path / "none"), "input.train")
    frame.write.parquet(str(tmp_path / "raw"))
    with pytest.raises(StorageError, match=r"^input\.train: .*raw is not a finished sparkrec out"):
        read_table(spark, str(tmp_path / "raw"), "input.train")


def test_parquet_of_others(spark: SparkSession, frame: DataFrame, tmp_path: Path) -> None:
    """Where asked for; what a killed job of ours has left is still none."""
    path = tmp_path / "raw"
    frame.write.parquet(str(path))
    assert read_table(spark, str(path), "input.queries", foreign=True).count() == len(ROWS)
    with pytest.raises(DataError, match="no column `query_id`"):
        read_table(spark, str(path), "input.queries", {"query_id": KEY_TYPES}, foreign=True)
    frame.limit(0).write.parquet(str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"^input\.queries: .*empty has no rows$"):
        read_table(spark, str(tmp_path / "empty"), "input.queries", foreign=True)
    with pytest.raises(KeyError), publish(str(tmp_path / "run"), "job") as folder:
        storage.write_bytes(storage.join(folder, "work/checkpoints/x"), b"x")
        raise KeyError
    with pytest.raises(StorageError, match="is not a finished sparkrec output"):
        read_table(spark, str(tmp_path / "run"), "input.queries", foreign=True)
    with pytest.raises(StorageError, match="no such path"):
        read_table(spark, str(tmp_path / "none"), "input.queries", foreign=True)


def test_column_names_that_stages_add(spark: SparkSession, tmp_path: Path) -> None:
    write_table(spark.sql("SELECT 1 AS _sr_rank"), str(tmp_path / "t"), "job")
    with pytest.raises(DataError, match=r"^input\.train: .*_sr_rank.*rename the column$"):
        read_table(spark, str(tmp_path / "t"), "input.train")


def test_no_rows(spark: SparkSession, frame: DataFrame, tmp_path: Path) -> None:
    facts = write_table(frame.limit(0), str(tmp_path / "empty"), "job")
    assert (facts["rows"], facts["content"]) == (0, "0" * 16)
    with pytest.raises(DataError, match=r"^input\.test: .*empty has no rows$"):
        read_table(spark, str(tmp_path / "empty"), "input.test")


def test_not_a_table(spark: SparkSession, tmp_path: Path) -> None:
    with publish(str(tmp_path / "model"), "job") as folder:
        storage.write_bytes(f"{folder}/weights.txt", b"x")
    with pytest.raises(DataError, match=r"^input\.test: .*model holds no parquet table"):
        read_table(spark, str(tmp_path / "model"), "input.test")


def test_parquet_of_others_with_a_damaged_footer(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    bad = tmp_path / "raw" / "x.parquet"
    bad.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=rf"^input\.test: .*raw holds no parquet .*read {bad}: it"):
        read_table(spark, str(tmp_path / "raw"), "input.test", foreign=True)


def test_files_that_are_not_in_the_manifest_are_not_read(frame: DataFrame, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    write_table(frame, path, "job", files=2)
    frame.coalesce(1).write.mode("append").parquet(resolve(path))
    assert read_table(frame.sparkSession, path, "x").count() == len(ROWS)


def test_a_table_that_lost_a_file(frame: DataFrame, tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    write_table(frame, path, "job", files=2)
    lost = next(Path(resolve(path)).glob("*.parquet"))
    lost.unlink()
    with pytest.raises(StorageError, match=rf"^input\.train: .*{lost.name} is missing"):
        read_table(frame.sparkSession, path, "input.train")


def test_missing_column(frame: DataFrame) -> None:
    with pytest.raises(
        DataError,
        match=r"^here has no column `movie_id` \(it has user_id, item_id, rating, recent\)$",
    ):
        require_columns(frame, {"movie_id": KEY_TYPES}, "here")


def test_wrong_type(frame: DataFrame) -> None:
    with pytest.raises(DataError, match=r"^here: column `rating` is double, but must be string or"):
        require_columns(frame, {"rating": KEY_TYPES}, "here")
    with pytest.raises(DataError, match=r"`user_id` is string, but must be long or integer"):
        require_columns(frame, {"user_id": INTEGER_TYPES}, "here")
    with pytest.raises(DataError, match=r"`recent` is array<bigint>, but must be"):
        require_columns(frame, {"recent": NUMBER_TYPES}, "here")


def test_equal_data_has_equal_content(frame: DataFrame, tmp_path: Path) -> None:
    first = content(frame, tmp_path / "a")
    assert content(frame, tmp_path / "b", files=3) == first
    assert content(frame.orderBy("item_id", ascending=False), tmp_path / "c") == first
    assert content(frame.select(*reversed(frame.columns)), tmp_path / "d", None) == first
    twice = frame.unionByName(frame)
    assert content(twice, tmp_path / "e", 2) == content(twice.repartition(4), tmp_path / "f", None)


def test_different_data_has_different_content(spark: SparkSession, tmp_path: Path) -> None:
    schema = "a long, b long, x array<long>, y array<long>"
    tables = {
        "one": [(1, 2, [1], [2])],
        "twice": [(1, 2, [1], [2])] * 2,
        "swapped": [(2, 1, [1], [2])],
        "null": [(1, None, [1], [2])],
        "null moved": [(None, 1, [1], [2])],
        "empty list": [(1, 2, [1, 2], [])],
        "null list": [(1, 2, [1, 2], None)],
        "null in list": [(1, 2, [1, 2, None], None)],
        "order in list": [(1, 2, [2, 1], None)],
        "nothing": [],
    }
    found = {
        name: content(spark.createDataFrame(rows, schema), tmp_path / name)
        for name, rows in tables.items()
    }
    renamed = spark.createDataFrame(tables["one"], schema.replace("b long", "c long"))
    found["renamed"] = content(renamed, tmp_path / "renamed")
    assert len(set(found.values())) == len(found), found


def test_content_is_as_it_was(spark: SparkSession, tmp_path: Path) -> None:
    """A golden value: tables of two releases can be told apart by what they hold alone."""
    frame = spark.createDataFrame([("u", 1), ("v", 2)], "user_id string, item_id long")
    assert content(frame, tmp_path / "t") == "9bf8b796c26f3578"

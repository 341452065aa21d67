"""MovieLens: exact positions, encodings, bad lines below and above the limit."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkrec.datasets.movielens import (
    MovieLensInput,
    PrepareMovieLens,
    prepare_movielens,
    year_of,
)
from sparkrec.errors import DataError, StorageError
from sparkrec.io.tables import read_table

RATINGS = ["2::10::5::978300000", "1::10::3::978300000", "1::20::4::978300000"]
USERS = ["1::F::1::10::48067", "2::M::56::16::70072-12"]
MOVIE_10 = "Misérables, Les (1995)"
MOVIES = ["10::Misérables, Les (1995)::Drama|Musical", "20::1984 (1956)::Children's"]


def raw(folder: Path, **files: list[str]) -> None:
    lines = {"ratings": RATINGS, "users": USERS, "movies": MOVIES} | files
    for name, content in lines.items():
        text = "".join(line + "\n" for line in content)
        (folder / f"{name}.dat").write_bytes(text.encode("latin-1"))


def config(folder: Path, **changes: object) -> PrepareMovieLens:
    values = {
        "job": "prepare_ml_1m",
        "dataset": "ml_1m",
        "input": MovieLensInput(str(folder)),
        "output_path": str(folder / "out"),
    } | changes
    return PrepareMovieLens(**values)  # type: ignore[arg-type]


def rows(spark: SparkSession, folder: Path, table: str, order: str) -> list[tuple]:
    frame = read_table(spark, str(folder / "out" / table), table)
    return [tuple(row) for row in frame.orderBy(order).collect()]


def test_the_three_tables(spark: SparkSession, tmp_path: Path) -> None:
    raw(tmp_path)
    prepared = prepare_movielens(spark, config(tmp_path))
    assert prepared.rows == {"events": 3, "users": 2, "items": 2}
    assert rows(spark, tmp_path, "events", "position") == [
        (2, 10, 5, 978300000, 0),
        (1, 10, 3, 978300000, 1),
        (1, 20, 4, 978300000, 2),
    ]
    assert rows(spark, tmp_path, "users", "user_id") == [
        (1, "F", 1, "10", "48067"),
        (2, "M", 56, "16", "70072-12"),
    ]
    assert rows(spark, tmp_path, "items", "movie_id") == [
        (10, "Misérables, Les (1995)", 1995, ["Drama", "Musical"]),
        (20, "1984 (1956)", 1956, ["Children's"]),
    ]
    types = dict(read_table(spark, str(tmp_path / "out" / "events"), "events").dtypes)
    assert types == {
        "user_id": "int",
        "movie_id": "int",
        "rating": "int",
        "timestamp": "bigint",
        "position": "bigint",
    }


def test_more_about_the_movies(spark: SparkSession, tmp_path: Path) -> None:
    """Directors, actors and plots of another file; null where it lacks a movie."""
    raw(tmp_path)
    extra = tmp_path / "movies_extrainfos.dat"
    line = "10::Les Misérables::1995::R::x::Drama::A B, C D::W (book)::N/A::Où? ::here::http://x"
    extra.write_text(f"{line}\r\n30::Heat{'::' * 9}\r\n", encoding="utf-8")
    source = MovieLensInput(str(tmp_path), str(extra))
    prepare_movielens(spark, config(tmp_path, input=source))
    assert rows(spark, tmp_path, "items", "movie_id") == [
        (10, MOVIE_10, 1995, ["Drama", "Musical"], ["A B", "C D"], [], "Où? ::here"),
        (20, "1984 (1956)", 1956, ["Children's"], None, None, None),
    ]
    source = MovieLensInput(str(tmp_path), str(tmp_path / "none"))
    with pytest.raises(StorageError, match=r"input\.extra: "):
        prepare_movielens(spark, config(tmp_path, input=source))


def test_variant_100k(spark: SparkSession, tmp_path: Path) -> None:
    flags = {5: "1", 6: "1"}
    tail = "|".join(flags.get(i, "0") for i in range(19))
    (tmp_path / "u.data").write_text("7\t3\t3\t881250949\n8\t3\t5\t881250000\n")
    (tmp_path / "u.user").write_text("7|24|M|technician|T8H1N\n8|53|F|other|94043\n")
    (tmp_path / "u.item").write_bytes(
        f"3|Légende (1995) |01-Jan-1995||http://x|{tail}\n".encode("latin-1")
        + f"4|unknown||||1{tail[1:]}\n".encode()
    )
    prepare_movielens(spark, config(tmp_path, variant="100k"))
    assert rows(spark, tmp_path, "events", "position")[0] == (7, 3, 3, 881250949, 0)
    assert rows(spark, tmp_path, "users", "user_id")[0] == (7, "M", 24, "technician", "T8H1N")
    assert rows(spark, tmp_path, "items", "movie_id") == [
        (3, "Légende (1995)", 1995, ["Comedy", "Crime"]),
        (4, "unknown", None, ["unknown", "Comedy", "Crime"]),
    ]


def test_position_is_the_line_whatever_the_number_of_tasks(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines = [f"{1 + i % 50}::{1 + i // 50}::{1 + i % 5}::{978300000 - i // 7}" for i in range(5000)]
    raw(tmp_path, ratings=lines)
    prepare_movielens(spark, config(tmp_path))
    events = read_table(spark, str(tmp_path / "out" / "events"), "events").repartition(13)
    got = {row.position: f"{row.user_id}::{row.movie_id}::{row.rating}::{row.timestamp}"
           for row in events.collect()}  # fmt: skip
    assert got == dict(enumerate(lines))


BAD = [
    "1::10::3",
    "x::10::3::978300000",
    "1::20::6::978300000",
    "1::20::4::978300000::9",
    "",
    RATINGS[0].replace("::5::", "::1::"),
]


def test_bad_lines_up_to_the_limit_are_left_out_and_counted(
    spark: SparkSession, tmp_path: Path
) -> None:
    raw(tmp_path, ratings=[*RATINGS[:2], *BAD, RATINGS[2]])
    prepared = prepare_movielens(spark, config(tmp_path, max_bad_rows=len(BAD)))
    assert prepared.bad_rows["ratings.dat"] == len(BAD)
    assert [row[-1] for row in rows(spark, tmp_path, "events", "position")] == [0, 1, 8]


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_line_over_the_limit_is_named(spark: SparkSession, tmp_path: Path, bad: str) -> None:
    raw(tmp_path, ratings=[*RATINGS[:2], bad, RATINGS[2]])
    with pytest.raises(DataError) as error:
        prepare_movielens(spark, config(tmp_path, max_bad_rows=0))
    assert f"ratings.dat: 1 bad row, more than max_bad_rows: 0; the first is line 3: {bad!r}" in (
        str(error.value)
    )
    assert not (tmp_path / "out").exists()


def test_the_limit_counts_over_all_files(spark: SparkSession, tmp_path: Path) -> None:
    raw(tmp_path, ratings=[*RATINGS, "?"], users=[*USERS, "3::X::1::10::48067"])
    with pytest.raises(
        DataError, match=r"users\.dat: 1 bad row after 1 in .*max_bad_rows: 1; .* line 3"
    ):
        prepare_movielens(spark, config(tmp_path, max_bad_rows=1))


def test_empty_and_missing_and_foreign_files(spark: SparkSession, tmp_path: Path) -> None:
    raw(tmp_path, ratings=[])
    with pytest.raises(DataError, match=r"ratings\.dat is empty"):
        prepare_movielens(spark, config(tmp_path))
    raw(tmp_path, ratings=["UserId,MovieId"])
    with pytest.raises(DataError, match="no usable line; line 1 is 'UserId,MovieId'"):
        prepare_movielens(spark, config(tmp_path))
    (tmp_path / "ratings.dat").unlink()
    with pytest.raises(StorageError, match=r"input\.path: cannot read .*download ml-1m"):
        prepare_movielens(spark, config(tmp_path))


@pytest.mark.parametrize(
    ("title", "year"),
    [("Heat (1995)", 1995), ("1984 (1956)", 1956), ("Land (1995) (V)", 1995), ("unknown", None)],
)
def test_year(title: str, year: int | None) -> None:
    assert year_of(title) == year


@pytest.mark.data
def test_the_real_files(spark: SparkSession, tmp_path: Path, research_data: Path) -> None:
    source = MovieLensInput(str(research_data / "ml-1m"))
    prepared = prepare_movielens(spark, config(tmp_path, input=source, max_bad_rows=0))
    assert prepared.rows == {"events": 1_000_209, "users": 6_040, "items": 3_883}
    extra = str(research_data / "ml-1m" / "movies_extrainfos.dat")
    more = config(tmp_path, input=MovieLensInput(source.path, extra), max_bad_rows=0)
    prepare_movielens(spark, more)
    assert read_table(spark, f"{tmp_path}/out/items", "items").where("plot > ''").count() > 3_700
    source = MovieLensInput(str(research_data / "ml-100k"))
    prepared = prepare_movielens(
        spark, config(tmp_path, input=source, max_bad_rows=0, variant="100k")
    )
    assert prepared.rows == {"events": 100_000, "users": 943, "items": 1_682}

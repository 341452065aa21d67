"""A table of neighbours asked by histories, its answers worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines.item_to_item.model import ItemToItemModel, stringify
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import DataError

Answers = list[tuple[str, float]]

IDS = ["a", "b", "c", "d", "é"]
# Popularity: é, d, b, a, c (b before a by count alone).
COUNTS = [3, 4, 1, 5, 9]
NEIGHBOURS = [[1, 2], [0, 3], [-1, -1], [1, -1], [2, -1]]
SCORES = [[0.5, 0.25], [0.5, 0.25], [0.0, 0.0], [1.0, 0.0], [0.75, 0.0]]


def model(**params: Any) -> ItemToItemModel:
    made = ItemToItemModel(
        Catalogue(pa.array(IDS), np.array(COUNTS)),
        np.array(NEIGHBOURS, np.int32),
        np.array(SCORES),
    )
    made.set_params(**{"k": 5, "exclude_seen": False, **params})
    return made


def ask(spark: SparkSession, asked: ItemToItemModel, *histories: list[str | None]) -> list[Answers]:
    schema = "query_id long, history array<string>"
    queries = spark.createDataFrame(list(enumerate(histories)), schema).coalesce(1)
    rows = sorted(asked.transform(queries).collect(), key=lambda row: row["query_id"])
    return [[(e["item_id"], e["score"]) for e in row["recommended"]] for row in rows]


def test_the_last_item_alone_triggers_its_neighbours_then_popular_items(
    spark: SparkSession,
) -> None:
    by_a, by_b = ask(spark, model(trigger="last"), ["b", "a"], ["a", "b"])
    assert by_a == [("b", 0.5), ("c", 0.25), ("é", -1.0), ("d", -2.0), ("a", -4.0)]
    assert by_b == [("a", 0.5), ("d", 0.25), ("é", -1.0), ("b", -3.0), ("c", -5.0)]


def test_a_history_adds_up_what_its_items_say_older_ones_less(spark: SparkSession) -> None:
    """Of [d, a, b]: b weighs 1, a .5 and d .25."""
    (found,) = ask(spark, model(trigger="history", decay=0.5), ["d", "a", "b"])
    assert dict(found) == pytest.approx(
        {"a": 0.5, "b": 0.5 * 0.5 + 0.25 * 1.0, "d": 0.25, "c": 0.5 * 0.25, "é": -1.0}
    )
    assert [item for item, _ in found] == ["a", "b", "d", "c", "é"]


def test_items_older_than_max_history_do_not_count(spark: SparkSession) -> None:
    (found,) = ask(spark, model(decay=0.5, max_history=2, k=4), ["d", "a", "b"])
    assert dict(found) == pytest.approx({"a": 0.5, "b": 0.25, "d": 0.25, "c": 0.125})


def test_unknown_items_and_nulls_neither_count_nor_age_the_others(spark: SparkSession) -> None:
    plain, odd = ask(spark, model(), ["d", "a"], [None, "d", "?", "a", None, "??"])
    assert odd == plain
    last, odd_last = ask(spark, model(trigger="last"), ["a"], ["a", "?", None])
    assert odd_last == last


def test_an_item_that_stands_twice_counts_twice(spark: SparkSession) -> None:
    (found,) = ask(spark, model(decay=0.5, k=2), ["a", "a"])
    assert found == [("b", 0.75), ("c", 0.375)]


def test_seen_items_leave_and_nothing_else_moves(spark: SparkSession) -> None:
    (kept,) = ask(spark, model(), ["d", "a", "b"])
    asked = model().set_params(exclude_seen=True)
    (left,) = ask(spark, asked, ["d", "a", "b"])
    assert left == [entry for entry in kept if entry[0] not in ("d", "a", "b")]


def test_only_candidates_are_given(spark: SparkSession) -> None:
    asked = model(trigger="last", candidates=["é", "c"])
    assert ask(spark, asked, ["a"]) == [[("c", 0.25), ("é", -1.0)]]


def test_ties_are_broken_by_the_raw_id_not_by_the_place(spark: SparkSession) -> None:
    """A catalogue whose places are not in the order of the ids."""
    tied = ItemToItemModel(
        Catalogue(pa.array(["z", "y", "x"]), np.array([1, 1, 1])),
        np.array([[1, 2], [-1, -1], [-1, -1]], np.int32),
        np.array([[0.5, 0.5], [0, 0], [0, 0]]),
    )
    tied.set_params(k=1, exclude_seen=False)
    assert ask(spark, tied, ["z"]) == [[("x", 0.5)]]


def test_who_has_no_known_history_is_for_the_fallback(spark: SparkSession) -> None:
    histories: list[list[str | None]] = [[], ["?"], [None], ["a"]]
    given = ask(spark, model(trigger="last", fallback="global_hot"), *histories)
    popular = [("é", 9.0), ("d", 5.0), ("b", 4.0), ("a", 3.0), ("c", 1.0)]
    assert given[:3] == [popular] * 3
    assert given[3][0] == ("b", 0.5)


def test_the_i2i_table_and_its_text(spark: SparkSession) -> None:
    table = model().i2i(spark)
    kind = "struct<key:string,value:array<struct<item_id:string,score:double>>>"
    assert table.schema.simpleString() == kind
    rows = {row["key"]: [tuple(entry) for entry in row["value"]] for row in table.collect()}
    assert rows == {
        "a": [("b", 0.5), ("c", 0.25)],
        "b": [("a", 0.5), ("d", 0.25)],
        "d": [("b", 1.0)],
        "é": [("c", 0.75)],
    }
    text = {row["key"]: row["value"] for row in stringify(table).collect()}
    assert text == {"a": "b:0.5;c:0.25", "b": "a:0.5;d:0.25", "d": "b:1.0", "é": "c:0.75"}


def test_a_model_is_loaded_as_it_was_saved(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "model")
    saved = model(trigger="last", decay=0.25, max_history=7)
    saved.save(path)
    again = ItemToItemModel.load(path)
    assert (again.neighbours == saved.neighbours).all()
    assert (again.scores == saved.scores).all()
    assert (again.neighbours.dtype, again.scores.dtype) == (np.int32, np.float64)
    assert again.config == saved.config
    assert ask(spark, again, ["d", "a"]) == ask(spark, saved, ["d", "a"])


def test_queries_need_a_history(spark: SparkSession) -> None:
    bare: DataFrame = spark.createDataFrame([(1,)], "query_id long")
    with pytest.raises(DataError, match="queries have no `history` column"):
        model().transform(bare)

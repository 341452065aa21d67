"""Catalogue: dense indices of raw ids, growth, popularity, and its file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.errors import DataError


def catalogue(ids: list[int] | list[str], counts: list[int] | None = None) -> Catalogue:
    return Catalogue(pa.array(ids), np.array(counts or [1] * len(ids), np.int64))


def test_known_ids_count_from_two_null_is_padding_others_are_unknown() -> None:
    items = catalogue([10, 20, 30])
    assert items.index(pa.array([30, 10, None, 99, 20])).tolist() == [4, 2, 0, 1, 3]
    assert items.index(pa.array([], pa.int64())).tolist() == []
    assert items.index(pa.nulls(2)).tolist() == [0, 0]
    assert len(items) == 3


def test_text_ids() -> None:
    items = catalogue(["b", "ä", ""])
    assert items.index(pa.array(["ä", None, "", "a", "b"])).tolist() == [3, 0, 4, 1, 2]
    assert items.index(pa.array(["b"], pa.large_string())).tolist() == [2]


def test_other_integer_types_and_chunks_are_fine() -> None:
    items = catalogue([10, 20])
    assert items.index(pa.array([20, 7], pa.int16())).tolist() == [3, 1]
    chunks = pa.chunked_array([[20], [None, 10]], pa.int64())
    assert items.index(chunks).tolist() == [3, 0, 2]


def test_large_ids_are_told_apart_beside_a_null() -> None:
    big = 2**60
    items = catalogue([big, big + 1, big + 2])
    assert items.index(pa.array([big + 1, None, big + 2, big + 3])).tolist() == [3, 0, 4, 1]


def test_an_id_beyond_the_catalogues_integers_is_unknown() -> None:
    items = Catalogue(pa.array([10, 20], pa.int32()), np.array([1, 1]))
    assert items.index(pa.array([2**40, 20, None])).tolist() == [1, 3, 0]


def test_a_sliced_array_is_read_from_its_own_start() -> None:
    ids = pa.array([99, 10, None, 20]).slice(1)
    assert catalogue([10, 20]).index(ids).tolist() == [2, 0, 3]


def test_order_and_popularity() -> None:
    items = catalogue(["c", "a", "d", "b"], [5, 7, 5, 7])
    assert items.order.tolist() == [2, 0, 3, 1]
    assert items.popular.tolist() == [1, 3, 0, 2]


def test_growing_keeps_old_places_and_takes_the_new_counts() -> None:
    old = catalogue([30, 10, 20], [3, 1, 2])
    grown = old.grow(catalogue([5, 10, 30, 40], [50, 10, 33, 40]))
    assert grown.ids.to_pylist() == [30, 10, 20, 5, 40]
    assert grown.counts.tolist() == [33, 10, 0, 50, 40]
    ids = pa.array([30, 10, 20])
    assert grown.index(ids).tolist() == old.index(ids).tolist() == [2, 3, 4]


def test_growing_by_nothing_new() -> None:
    grown = catalogue([1, 2], [5, 6]).grow(catalogue([2], [1]))
    assert grown.ids.to_pylist() == [1, 2]
    assert grown.counts.tolist() == [0, 1]


def test_growing_needs_ids_of_one_type() -> None:
    with pytest.raises(DataError, match="item ids are int64, those of train string"):
        catalogue([1]).grow(catalogue(["1"]))


@pytest.mark.parametrize("ids", [[3, 1, 2], ["x", "y", "ß"]])
def test_file_round_trip(ids: list[int] | list[str], tmp_path: Path) -> None:
    path = str(tmp_path / "items.parquet")
    items = catalogue(ids, [4, 5, 6])
    items.write(path)
    again = Catalogue.read(path)
    assert again.ids.equals(items.ids)
    assert again.ids.type == items.ids.type
    assert again.counts.tolist() == [4, 5, 6]


def test_of_events_counts_and_sorts_and_leaves_out_nulls(spark: SparkSession) -> None:
    events = spark.createDataFrame([(3,), (1,), (3,), (None,), (2,)], "movie_id long")
    items = count_catalogue(events, "movie_id")
    assert items.ids.to_pylist() == [1, 2, 3]
    assert items.counts.tolist() == [1, 1, 2]

    texts = spark.createDataFrame([("b",), ("a",), ("b",)], "item string")
    items = count_catalogue(texts, "item")
    assert items.ids.type == pa.string()
    assert items.ids.to_pylist() == ["a", "b"]
    assert items.counts.tolist() == [1, 2]


def test_of_no_events_is_an_error(spark: SparkSession) -> None:
    events = spark.createDataFrame([(None,)], "movie_id long")
    with pytest.raises(DataError, match="train has no event with a movie_id"):
        count_catalogue(events, "movie_id")

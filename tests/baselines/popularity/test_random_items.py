"""Random: every item with the same probability, the same answer for the same history."""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from sparkrec.baselines.popularity.random_items import Random
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.retrieval.answering.random_items import RandomSearcher

ITEMS, K, QUERIES = 30, 5, 4000


def searcher(seed: int = 1) -> RandomSearcher:
    ids = pa.array(np.arange(100, 100 + ITEMS))
    return RandomSearcher(Catalogue(ids, np.ones(ITEMS, np.int64)), "history", seed)


def batch(histories: list[list[int]]) -> pa.RecordBatch:
    return pa.record_batch({"history": pa.array(histories, pa.list_(pa.int64()))})


HISTORIES = [[100 + n % ITEMS, 100 + n // ITEMS % ITEMS, 100 + n % 7] for n in range(QUERIES)]


def test_every_item_is_as_likely_as_any_other() -> None:
    allowed = np.arange(ITEMS) % 3 > 0
    found = searcher()
    asked = batch(HISTORIES)
    for mask, number in ((None, ITEMS), (allowed, int(allowed.sum()))):
        _, items = found.search(asked, K, None, mask)
        counts = np.bincount(items.ravel(), minlength=ITEMS)
        wanted = QUERIES * K / number
        inside = counts if mask is None else counts[mask]
        assert np.abs(inside - wanted).max() < 5 * np.sqrt(wanted)
        assert counts.sum() == inside.sum() == QUERIES * K


def test_items_are_distinct_and_seen_ones_are_left_out() -> None:
    found, asked = searcher(), batch(HISTORIES)
    seen = found.history_items(asked, "history")
    for k in (K, ITEMS, 2 * ITEMS):
        scores, items = found.search(asked, k, seen, None)
        for row, history in zip(items, HISTORIES, strict=True):
            given = [item for item in row if item >= 0]
            assert len(set(given)) == len(given) == min(k, ITEMS - len(set(history)))
            assert not {item + 100 for item in given} & set(history)
        assert (scores[:, 1:] < scores[:, :-1])[items[:, 1:] >= 0].all()


def test_the_seed_and_the_history_decide() -> None:
    asked = batch([HISTORIES[40], HISTORIES[41], HISTORIES[40], HISTORIES[40][::-1]])
    _, items = searcher().search(asked, ITEMS, None, None)
    _, other = searcher(2).search(asked, ITEMS, None, None)
    assert (items[0] == items[2]).all()
    for first, second in ((items[0], items[1]), (items[0], items[3]), (items[0], other[0])):
        assert (first != second).any()


def test_items_are_added_and_taken_out(spark: SparkSession, tmp_path) -> None:
    events = spark.createDataFrame([(1, 10), (1, 11)], "user_id long, item_id long")
    model = Random(seed=4, k=9, exclude_seen=False).fit(events)
    grown = model.add_items(spark.createDataFrame([(11,), (12,)], "item_id long"))
    asked = spark.createDataFrame([(0, [10])], "query_id long, history array<long>")

    def given(one) -> list[int]:
        return [entry["item_id"] for entry in one.transform(asked).head()["recommended"]]

    assert sorted(given(model)) == [10, 11]
    assert sorted(given(grown)) == [10, 11, 12]
    assert sorted(given(grown.remove_items([10]))) == [11, 12]
    grown.save(str(tmp_path / "model"))
    assert given(type(grown).load(str(tmp_path / "model"))) == given(grown)


@pytest.mark.parametrize("items", [1, 2, 3, 4, 9])
def test_small_catalogues(items: int) -> None:
    ids = pa.array(np.arange(items))
    found = RandomSearcher(Catalogue(ids, np.ones(items, np.int64)), "history", 0)
    _, given = found.search(batch([[], [0]]), 10, None, None)
    assert sorted(given[0]) == sorted(given[1]) == list(range(items))

"""NeighbourSearcher against dense rows of scores, sorted whole, in plain Python."""

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.retrieval.answering.neighbours import NeighbourSearcher, age_weights

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def made(random: np.random.Generator, items: int, width: int, levels: int) -> NeighbourSearcher:
    """A catalogue in any order, gaps anywhere in the table, and scores with many ties.

    Some scores are 0 or negative, so that sums come back to 0.
    """
    ids = pa.array([f"item {number}" for number in random.permutation(items)])
    catalogue = Catalogue(ids, random.integers(0, 4, items))
    neighbours = random.integers(-1, items, (items, width)).astype(np.int32)
    scores = random.integers(-1, levels, (items, width)) / 8
    weights = age_weights("history", float(random.choice([0.3, 0.5, 1.0])), random.integers(1, 9))
    return NeighbourSearcher(catalogue, neighbours, scores, "history", weights)


def asked(random: np.random.Generator, items: int, queries: int) -> pa.RecordBatch:
    """Histories of 0 to 12 items, some twice, some unknown, some null."""
    lengths = random.integers(0, 13, queries)
    histories = [
        [None if n == items else f"item {n}" for n in random.integers(0, items + 2, length)]
        for length in lengths
    ]
    return pa.record_batch({"history": pa.array(histories, pa.list_(pa.string()))})


def reference(
    searcher: NeighbourSearcher,
    histories: list[list[str | None]],
    k: int,
    seen: tuple[Ints, Ints] | None,
    allowed: Mask | None,
) -> tuple[list[list[float]], list[list[int]]]:
    """Items of a history in ascending order, an item's weights added up from the oldest on."""
    catalogue, weights = searcher.catalogue, searcher.weights
    number = {raw: item for item, raw in enumerate(catalogue.ids.to_pylist())}
    popular = sorted(
        range(len(catalogue)), key=lambda item: (-catalogue.counts[item], catalogue.order[item])
    )
    forbidden = set() if seen is None else set(zip(*map(np.ndarray.tolist, seen), strict=True))
    all_scores, all_items = [], []
    for query, history in enumerate(histories):
        known = [number[raw] for raw in history if raw in number]
        by_item: dict[int, float] = {}
        for age in reversed(range(min(len(known), len(weights)))):
            item = known[-1 - age]
            by_item[item] = by_item.get(item, 0.0) + weights[age]
        sums = [0.0] * len(catalogue)
        for item in sorted(by_item):
            for other, score in zip(searcher.neighbours[item], searcher.scores[item], strict=True):
                if other >= 0:
                    sums[other] += by_item[item] * score
        scores = np.array(sums, np.float32)
        for place, item in enumerate(popular):
            if not scores[item] > 0:
                scores[item] = -1 - place
        ranked = [
            item
            for item in sorted(popular, key=lambda i: (-scores[i], catalogue.order[i]))
            if (query, item) not in forbidden and (allowed is None or allowed[item])
        ]
        nothing = min(k, len(catalogue)) - len(ranked[:k])
        all_scores.append([*map(float, scores[ranked[:k]]), *[-np.inf] * nothing])
        all_items.append([*ranked[:k], *[-1] * nothing])
    return all_scores, all_items


def check(searcher: NeighbourSearcher, batch: pa.RecordBatch, k: int, *masks: Any) -> None:
    scores, items = searcher.search(batch, k, *masks)
    assert (scores.dtype, items.dtype) == (np.float32, np.int64)
    assert scores.shape == items.shape == (batch.num_rows, min(k, len(searcher.catalogue)))
    wanted = reference(searcher, batch.column("history").to_pylist(), k, *masks)
    assert (scores.tolist(), items.tolist()) == wanted


@given(
    items=st.integers(1, 40),
    width=st.integers(1, 6),
    levels=st.integers(0, 5),
    queries=st.integers(0, 6),
    k=st.integers(1, 45),
    with_seen=st.booleans(),
    share_allowed=st.sampled_from([None, 0.0, 0.3, 0.9]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=200, deadline=None)
def test_answers_are_those_of_dense_rows(
    items: int,
    width: int,
    levels: int,
    queries: int,
    k: int,
    with_seen: bool,
    share_allowed: float | None,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    searcher = made(random, items, width, levels)
    seen = None
    if with_seen:
        rows = np.sort(random.integers(0, max(queries, 1), 30 if queries else 0))
        seen = rows, random.integers(0, items, len(rows))
    allowed = None if share_allowed is None else random.random(items) < share_allowed
    check(searcher, asked(random, items, queries), k, seen, allowed)


def test_longer_histories_and_tables_give_equal_sums() -> None:
    """Scores with all their digits: sums are equal to the last bit."""
    random = np.random.default_rng(1)
    searcher = made(random, 500, 40, 5)
    searcher.scores[:] = random.random(searcher.scores.shape)
    searcher.weights = age_weights("history", 0.9, 12)
    batch = asked(random, 500, 40)
    rows = np.repeat(np.arange(40), 20)
    seen = rows, random.integers(0, 500, len(rows))
    check(searcher, batch, 20, None, None)
    check(searcher, batch, 20, seen, random.random(500) < 0.5)


def test_a_query_leaves_nothing_behind_for_the_next() -> None:
    random = np.random.default_rng(2)
    searcher, batch = made(random, 30, 5, 4), asked(random, 30, 50)
    rows = np.repeat(np.arange(50), 4)
    items = random.integers(0, 30, len(rows))
    scores, found = searcher.search(batch, 8, (rows, items), None)
    for row in range(50):
        own = rows[rows == row] - row, items[rows == row]
        one_scores, one = searcher.search(batch.slice(row, 1), 8, own, None)
        assert one_scores.tolist() == [scores[row].tolist()]
        assert one.tolist() == [found[row].tolist()]


def test_arrays_that_cannot_be_written_to() -> None:
    """As they come from a file."""
    random = np.random.default_rng(3)
    searcher, batch = made(random, 20, 4, 4), asked(random, 20, 10)
    searcher.neighbours.flags.writeable = searcher.scores.flags.writeable = False
    check(searcher, batch, 5, None, None)


def test_what_is_sent_to_the_workers_has_no_accumulators() -> None:
    random = np.random.default_rng(4)
    searcher, batch = made(random, 50_000, 1, 3), asked(random, 50_000, 3)
    before = len(pickle.dumps(searcher))
    searcher.search(batch, 5, None, None)
    content = pickle.dumps(searcher)
    assert len(content) < before + 1000
    again = pickle.loads(content).search(batch, 5, None, None)
    assert np.array_equal(again[1], searcher.search(batch, 5, None, None)[1])


@pytest.mark.parametrize("similarity", [1e-46, -1.0])
def test_a_neighbour_whose_score_is_nothing_is_a_popular_item(similarity: float) -> None:
    """Scores are float32 in the end: 1e-46 is none of them."""
    catalogue = Catalogue(pa.array(["a", "b", "c"]), np.array([3, 2, 1]))
    table = np.array([[2], [-1], [-1]], np.int32), np.array([[similarity], [0.0], [0.0]])
    searcher = NeighbourSearcher(catalogue, *table, "history", age_weights("last", 1.0, 1))
    scores, items = searcher.search(pa.record_batch({"history": [["a"]]}), 3, None, None)
    assert items.tolist() == [[0, 1, 2]]
    assert scores.tolist() == [[-1.0, -2.0, -3.0]]

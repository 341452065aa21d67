"""top_k against a brute force that sorts every row whole."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkrec.retrieval.search.topk import top_k


def brute_force(
    scores: npt.NDArray[np.float32], k: int, order: npt.NDArray[np.int64]
) -> list[list[int]]:
    rows = []
    for row in scores:
        ranked = sorted(range(len(row)), key=lambda item: (-row[item], order[item]))
        kept = [item if row[item] > -np.inf else -1 for item in ranked[:k]]
        rows.append(kept)
    return rows


def check(scores: npt.NDArray[np.float32], k: int, order: npt.NDArray[np.int64]) -> None:
    before = scores.copy()
    found_scores, found = top_k(scores, k, order)
    width = min(k, scores.shape[1])
    assert found.shape == found_scores.shape == (len(scores), width)
    assert found.dtype == np.int64
    assert found.tolist() == brute_force(scores, k, order)
    for row, (values, items) in enumerate(zip(found_scores, found, strict=True)):
        assert np.all(values[items < 0] == -np.inf)
        assert values[items >= 0].tolist() == scores[row, items[items >= 0]].tolist()
    assert np.array_equal(scores, before)


@given(
    rows=st.integers(1, 4),
    items=st.integers(1, 120),
    k=st.integers(1, 130),
    levels=st.integers(1, 8),
    masked=st.sampled_from([0.0, 0.3, 0.98, 1.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=200, deadline=None)
def test_agrees_with_brute_force(
    rows: int, items: int, k: int, levels: int, masked: float, seed: int
) -> None:
    """Few levels make many ties, also beyond the items that are picked for the sort."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (rows, items)).astype(np.float32)
    scores[rng.random((rows, items)) < masked] = -np.inf
    check(scores, k, rng.permutation(items))


@pytest.mark.parametrize("levels", [3, 200, 10_000_000])
@pytest.mark.parametrize("masked", [0.0, 0.999])
def test_agrees_with_brute_force_where_items_are_many(levels: int, masked: float) -> None:
    """So many that only some groups of them are looked at."""
    rng = np.random.default_rng(1)
    scores = rng.integers(0, levels, (6, 7013)).astype(np.float32)
    scores[rng.random(scores.shape) < masked] = -np.inf
    check(scores, 15, rng.permutation(scores.shape[1]))


def test_distinct_scores() -> None:
    rng = np.random.default_rng(0)
    check(rng.standard_normal((20, 500)).astype(np.float32), 10, rng.permutation(500))


def test_ties_follow_the_order_and_not_the_place() -> None:
    scores = np.zeros((1, 200), np.float32)
    order = np.arange(200)[::-1].copy()
    assert top_k(scores, 3, order)[1].tolist() == [[199, 198, 197]]


@pytest.mark.parametrize("k", [1, 3, 4, 100])
def test_nothing_to_give_is_minus_one(k: int) -> None:
    scores = np.array([[-np.inf, -np.inf, -np.inf], [-np.inf, 5, -np.inf]], np.float32)
    check(scores, k, np.arange(3))


def test_no_rows() -> None:
    scores, items = top_k(np.zeros((0, 50), np.float32), 5, np.arange(50))
    assert scores.shape == items.shape == (0, 5)

"""VectorIndex: exact search against brute force, approximate search against exact."""

import numpy as np
import numpy.typing as npt
import pytest
from answers import assert_same_ranking, ranked

from sparkrec.errors import ConfigError
from sparkrec.retrieval.search.index import VectorIndex
from sparkrec.retrieval.search.settings import Retrieval

Floats = npt.NDArray[np.float32]
Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

ITEMS, DIM, QUERIES, K = 600, 16, 40, 10
APPROXIMATE = [
    Retrieval(index="IVF16,Flat", nprobe=8),
    Retrieval(index="HNSW16", ef_search=128),
]


def unit(rows: int, seed: int) -> Floats:
    vectors = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def seen_pairs(seed: int = 3, per_query: int = 30) -> Pairs:
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(QUERIES), per_query)
    # The best items of each query are among those seen, or the mask would change nothing.
    best = np.argsort(-(unit(QUERIES, 2) @ unit(ITEMS, 1).T), axis=1)[:, :15]
    others = rng.integers(0, ITEMS, (QUERIES, per_query - 15))
    return rows, np.concatenate([best, others], axis=1).reshape(-1)


def allowed_items() -> npt.NDArray[np.bool_]:
    return np.random.default_rng(4).random(ITEMS) < 0.5


def build(settings: Retrieval) -> VectorIndex:
    order = np.random.default_rng(5).permutation(ITEMS)
    return VectorIndex.build(unit(ITEMS, 1), settings, order)


def brute_force(
    seen: Pairs | None, allowed: npt.NDArray[np.bool_] | None, k: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    scores = unit(QUERIES, 2) @ unit(ITEMS, 1).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    if seen is not None:
        scores[seen] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :k]
    return np.take_along_axis(scores, best, axis=1), best


Found = tuple[Floats, npt.NDArray[np.int64]]


def assert_same_rankings(found: Found, wanted: Found) -> None:
    """Scores and items of every query."""
    assert found[0].shape == found[1].shape == wanted[1].shape
    for found_scores, found_items, scores, items in zip(*found, *wanted, strict=True):
        assert_same_ranking(ranked(found_items, found_scores), ranked(items, scores))


@pytest.mark.parametrize("with_seen", [False, True])
@pytest.mark.parametrize("with_allowed", [False, True])
def test_exact_search_is_brute_force(with_seen: bool, with_allowed: bool) -> None:
    seen = seen_pairs() if with_seen else None
    allowed = allowed_items() if with_allowed else None
    found = build(Retrieval()).search(unit(QUERIES, 2), K, seen, allowed)
    assert found[1].min() >= 0
    assert_same_rankings(found, brute_force(seen, allowed, K))


def test_exact_search_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    index = build(Retrieval())
    whole = index.search(unit(QUERIES, 2), K, seen_pairs())
    monkeypatch.setattr("sparkrec.retrieval.search.topk._CHUNK_SCORES", 7 * ITEMS)
    blocked = index.search(unit(QUERIES, 2), K, seen_pairs())
    assert_same_rankings(blocked, whole)


def test_equal_items_are_told_apart_by_the_order() -> None:
    vectors = np.ones((100, 4), np.float32)
    order = np.arange(100)[::-1].copy()
    index = VectorIndex.build(vectors, Retrieval(), order)
    assert index.search(vectors[:2], 3)[1].tolist() == [[99, 98, 97]] * 2


def test_k_beyond_the_items_and_fewer_than_k_left() -> None:
    index = VectorIndex.build(unit(5, 1), Retrieval(), np.arange(5))
    scores, items = index.search(unit(1, 2), 50)
    assert sorted(items[0].tolist()) == [0, 1, 2, 3, 4]
    seen = (np.array([0, 0, 0]), np.array([1, 2, 4]))
    scores, items = index.search(unit(1, 2), 50, seen)
    assert sorted(items[0, :2].tolist()) == [0, 3]
    assert items[0, 2:].tolist() == [-1, -1, -1]
    assert np.all(scores[0, 2:] == -np.inf)


@pytest.mark.parametrize("settings", [Retrieval(), *APPROXIMATE], ids=lambda s: s.index)
def test_no_queries_give_no_rows(settings: Retrieval) -> None:
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64))
    for seen in (None, nothing):
        scores, items = build(settings).search(unit(0, 2), K, seen)
        assert scores.shape == items.shape == (0, K)


@pytest.mark.parametrize("settings", APPROXIMATE, ids=lambda s: s.index)
@pytest.mark.parametrize("with_seen", [False, True])
@pytest.mark.parametrize("with_allowed", [False, True])
def test_approximate_search_finds_most_and_never_gives_what_it_must_not(
    settings: Retrieval, with_seen: bool, with_allowed: bool
) -> None:
    seen = seen_pairs() if with_seen else None
    allowed = allowed_items() if with_allowed else None
    scores, items = build(settings).search(unit(QUERIES, 2), K, seen, allowed)
    assert items.shape == (QUERIES, K)
    _, expected = brute_force(seen, allowed, K)
    found = [len(set(a) & set(b)) for a, b in zip(items.tolist(), expected.tolist(), strict=True)]
    assert sum(found) / expected.size > 0.8
    forbidden = set(zip(*map(np.ndarray.tolist, seen), strict=True)) if seen else set()
    for row, ids in enumerate(items.tolist()):
        given = [item for item in ids if item >= 0]
        assert len(set(given)) == len(given)
        assert not forbidden & {(row, item) for item in given}
        assert allowed is None or allowed[given].all()
    exact = unit(QUERIES, 2) @ unit(ITEMS, 1).T
    row, place = np.nonzero(items >= 0)
    assert np.allclose(scores[row, place], exact[row, items[row, place]], atol=1e-5)


@pytest.mark.parametrize("settings", APPROXIMATE, ids=lambda s: s.index)
def test_approximate_search_with_everything_seen_gives_nothing(settings: Retrieval) -> None:
    index = build(settings)
    seen = (np.zeros(ITEMS, np.int64), np.arange(ITEMS))
    items = index.search(unit(2, 2), K, seen)[1]
    assert items[0].tolist() == [-1] * K
    assert items[1].min() >= 0


@pytest.mark.parametrize("settings", [Retrieval(), *APPROXIMATE], ids=lambda s: s.index)
def test_bytes_round_trip(settings: Retrieval) -> None:
    index = build(settings)
    again = VectorIndex.from_bytes(index.to_bytes(), settings, index.order)
    assert np.allclose(index.vectors, unit(ITEMS, 1))
    assert np.array_equal(again.vectors, index.vectors)
    for seen in (None, seen_pairs()):
        before, after = (i.search(unit(QUERIES, 2), K, seen) for i in (index, again))
        assert_same_rankings(after, before)


def test_more_lists_than_items_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"IVF8,Flat has more lists than there are items \(5\)"):
        VectorIndex.build(unit(5, 1), Retrieval(index="IVF8,Flat"), np.arange(5))


@pytest.mark.parametrize("kind", ["flat", "IVF,Flat", "PQ8", "HNSW", "IVF16"])
def test_unknown_kinds_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="index must be Flat"):
        Retrieval(index=kind)

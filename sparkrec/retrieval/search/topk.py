"""The k items with the highest scores of each query; ties are broken by an order of the items."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_SLACK = 32
_GROUP = 32
_CHUNK_SCORES = 1 << 23


def best_of(
    scores: Callable[[int, int], Floats],
    queries: int,
    k: int,
    order: Ints,
    seen: tuple[Ints, Ints] | None,
    allowed: npt.NDArray[np.bool_] | None,
) -> tuple[Floats, Ints]:
    """The k best items of every query, from the scores of all items.

    Parameters
    ----------
    scores
        `scores(start, stop)` returns the scores of the queries from `start` to before `stop`, a new
        array [stop - start, items]. It is called for chunks of at most 8 million scores.
    queries
        Number of queries.
    k
        Number of items for each query, at least 1.
    order
        int64 [items]: of two items with equal scores, the one with the smaller value ranks first.
    seen
        Pairs of a query and an item that it must not get: two int64 arrays of the same length,
        queries ascending. None excludes nothing.
    allowed
        bool [items]: the only items that may be recommended. None allows all.

    Returns
    -------
    scores, items
        float32 and int64 [queries, min(k, items)], best first; -inf and -1 where a query has fewer
        items.
    """
    chunk = max(1, _CHUNK_SCORES // max(len(order), 1))
    parts = []
    for start in range(0, max(queries, 1), chunk):
        stop = min(start + chunk, queries)
        found = scores(start, stop)
        if allowed is not None:
            found[:, ~allowed] = -np.inf
        if seen is not None:
            low, high = np.searchsorted(seen[0], (start, stop))
            found[seen[0][low:high] - start, seen[1][low:high]] = -np.inf
        parts.append(top_k(found, k, order))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def top_k(scores: Floats, k: int, order: Ints) -> tuple[Floats, Ints]:
    """The k best columns of every row, best first.

    Parameters
    ----------
    scores
        float32 [rows, items]; -inf marks an item that must not be recommended.
    k
        At least 1; may be larger than the number of items.
    order
        int64 [items], distinct: of two items with equal scores, the one with the smaller value
        ranks first, and is taken if only one of them fits.

    Returns
    -------
    scores, items
        float32 and int64 [rows, min(k, items)]; the last columns of a row with fewer items hold
        -inf and -1.

    Notes
    -----
    If there are many items, they are divided into groups of 32, and only the groups with the
    highest maxima are searched. A partial selection then picks k + 32 items, which are sorted. A
    row that has ties between the picked items and others is sorted as a whole.
    """
    items = scores.shape[1]
    k = min(k, items)
    picked, beyond = _candidates(scores, min(k + _SLACK, items))
    picked_scores = np.take_along_axis(scores, picked, axis=1)
    best = np.lexsort((order[picked], -picked_scores), axis=1)[:, :k]
    found = np.take_along_axis(picked, best, axis=1)
    found_scores = np.take_along_axis(picked_scores, best, axis=1)
    for row in np.flatnonzero((found_scores[:, -1] <= beyond) & (beyond > -np.inf)):
        whole = np.lexsort((order, -scores[row]))[:k]
        found[row], found_scores[row] = whole, scores[row, whole]
    found = np.where(found_scores > -np.inf, found, -1)
    return found_scores, found.astype(np.int64)


def _candidates(scores: Floats, wide: int) -> tuple[Ints, Floats]:
    """The best `wide` columns of each row, and a score that no other column exceeds."""
    rows, items = scores.shape
    if wide == items:
        return np.broadcast_to(np.arange(items), scores.shape), np.full(rows, -np.inf, np.float32)
    groups = items // _GROUP
    if groups < 4 * wide:
        picked = np.argpartition(scores, items - wide - 1, axis=1)
        beyond = np.take_along_axis(scores, picked[:, [items - wide - 1]], axis=1)[:, 0]
        return picked[:, items - wide :], beyond
    # Group g has the columns g, g + groups, ..., so that the maxima are computed along contiguous
    # memory.
    maxima = scores[:, : groups * _GROUP].reshape(rows, _GROUP, groups).max(axis=1)
    chosen, other_groups = _candidates(maxima, wide)
    columns = (chosen[:, :, None] + np.arange(_GROUP) * groups).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(groups * _GROUP, items), (rows, items % _GROUP))
    columns = np.concatenate([columns, rest], axis=1)
    inner, beyond = _candidates(np.take_along_axis(scores, columns, axis=1), wide)
    return np.take_along_axis(columns, inner, axis=1), np.maximum(beyond, other_groups)

"""The best k of a block of scores, ties broken by a fixed order of the items."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_SLACK = 32
_GROUP = 32
_BLOCK_SCORES = 1 << 23


def best_of(
    scores: Callable[[int, int], Floats],
    queries: int,
    k: int,
    order: Ints,
    seen: tuple[Ints, Ints] | None,
    allowed: npt.NDArray[np.bool_] | None,
) -> tuple[Floats, Ints]:
    """The k best items of every query, from its scores of all items.

    Parameters
    ----------
    scores
        Gives the scores of queries `start` to `stop`, a new array [stop - start, items]; asked for
        blocks of at most 8 million scores.
    order
        [items]; of two items with equal scores the one with the smaller number is first.
    seen
        Items that must not be given to a query: (query, item), two arrays of one length, queries
        ascending.
    allowed
        [items]: only these are given to anyone.

    Returns
    -------
    scores, items
        [queries, min(k, items)]; -inf and -1 where there is nothing more to give.
    """
    block = max(1, _BLOCK_SCORES // max(len(order), 1))
    parts = []
    for start in range(0, max(queries, 1), block):
        stop = min(start + block, queries)
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
        [rows, items]; -inf marks an item that must not be given.
    k
        At least 1; more than there are items is fine.
    order
        [items], distinct: of two items with equal scores the one with the smaller number is
        first, and is kept where only one fits.

    Returns
    -------
    scores, items
        [rows, min(k, items)]; where a row has fewer items to give, its last columns hold -1 (and
        a score of -inf).

    Notes
    -----
    Of many items, only those are looked at whose group (of 32) has one of the highest maxima; then
    comes a partial selection of k + 32, then a sort of those. A row whose ties reach beyond what
    was looked at is sorted as a whole.
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
    """`wide` of the best columns of each row, and a score that no other column exceeds."""
    rows, items = scores.shape
    if wide == items:
        return np.broadcast_to(np.arange(items), scores.shape), np.full(rows, -np.inf, np.float32)
    groups = items // _GROUP
    if groups < 4 * wide:
        picked = np.argpartition(scores, items - wide - 1, axis=1)
        beyond = np.take_along_axis(scores, picked[:, [items - wide - 1]], axis=1)[:, 0]
        return picked[:, items - wide :], beyond
    # Group g has the columns g, g + groups, ...: their maximum runs along the rows of memory.
    maxima = scores[:, : groups * _GROUP].reshape(rows, _GROUP, groups).max(axis=1)
    chosen, other_groups = _candidates(maxima, wide)
    columns = (chosen[:, :, None] + np.arange(_GROUP) * groups).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(groups * _GROUP, items), (rows, items % _GROUP))
    columns = np.concatenate([columns, rest], axis=1)
    inner, beyond = _candidates(np.take_along_axis(scores, columns, axis=1), wide)
    return np.take_along_axis(columns, inner, axis=1), np.maximum(beyond, other_groups)

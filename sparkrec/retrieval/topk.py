"""The best k of a block of scores, ties broken by a fixed order of the items."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_SLACK = 32


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
    A partial selection of k + 32, then a sort of those; a row whose ties reach beyond them is
    sorted as a whole.
    """
    items = scores.shape[1]
    k = min(k, items)
    wide = min(k + _SLACK, items)
    if wide < items:
        picked = np.argpartition(scores, items - wide, axis=1)[:, items - wide :]
    else:
        picked = np.broadcast_to(np.arange(items), scores.shape)
    picked_scores = np.take_along_axis(scores, picked, axis=1)
    best = np.lexsort((order[picked], -picked_scores), axis=1)
    found = np.take_along_axis(picked, best[:, :k], axis=1)
    found_scores = np.take_along_axis(picked_scores, best[:, :k], axis=1)
    if wide < items:
        lowest = picked_scores.min(axis=1)
        for row in np.flatnonzero((found_scores[:, -1] == lowest) & (lowest > -np.inf)):
            whole = np.lexsort((order, -scores[row]))[:k]
            found[row], found_scores[row] = whole, scores[row, whole]
    found = np.where(found_scores > -np.inf, found, -1)
    return found_scores, found.astype(np.int64)

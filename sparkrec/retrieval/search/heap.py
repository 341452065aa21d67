"""The best of many scored items, in compiled loops: a heap in two arrays of the wanted length.

Items with equal scores are ordered by their number, which is the order of the raw ids.
"""

import numpy as np
import numpy.typing as npt

from sparkrec.compiled import compiled

Numbers = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float64]


@compiled
def _worse(item: int, score: float, than_item: int, than_score: float) -> bool:
    return score < than_score or (score == than_score and item > than_item)


@compiled
def _sift(items: Numbers, scores: Scores, size: int, item: int, score: float) -> None:
    """Replace the top of the heap."""
    i = 0
    while 2 * i + 1 < size:
        down = 2 * i + 1
        if down + 1 < size and _worse(items[down + 1], scores[down + 1], items[down], scores[down]):
            down += 1
        if not _worse(items[down], scores[down], item, score):
            break
        items[i], scores[i] = items[down], scores[down]
        i = down
    items[i], scores[i] = item, score


@compiled
def push(items: Numbers, scores: Scores, size: int, item: int, score: float) -> int:
    """Add to a heap with the worst on top (of equal scores the larger item); its new size."""
    if size < len(items):
        i = size
        size += 1
        while i > 0:
            up = (i - 1) // 2
            if not _worse(item, score, items[up], scores[up]):
                break
            items[i], scores[i] = items[up], scores[up]
            i = up
        items[i], scores[i] = item, score
    elif _worse(items[0], scores[0], item, score):
        _sift(items, scores, size, item, score)
    return size


@compiled
def sort(items: Numbers, scores: Scores, size: int) -> None:
    """Turn the heap into a list, best first."""
    for end in range(size - 1, 0, -1):
        item, score = items[end], scores[end]
        items[end], scores[end] = items[0], scores[0]
        _sift(items, scores, end, item, score)

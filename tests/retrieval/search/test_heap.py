"""The heap keeps the best items in order, whatever the ties and whatever comes first."""

import numpy as np
import pytest

from sparkrec.retrieval.search.heap import push, sort


@pytest.mark.parametrize("places", [1, 2, 5, 16])
def test_the_heap_is_a_sort_that_stops_early(places: int) -> None:
    rng = np.random.default_rng(places)
    for _ in range(300):
        number = int(rng.integers(1, 40))
        offered = rng.permutation(number).astype(np.int32)
        offered_scores = rng.integers(0, 4, number).astype(np.float64)  # many are equal
        items, scores = np.empty(places, np.int32), np.empty(places)
        size = 0
        for item, score in zip(offered.tolist(), offered_scores.tolist(), strict=True):
            size = push(items, scores, size, item, score)
        sort(items, scores, size)
        best = np.lexsort([offered, -offered_scores])[:places]
        assert items[:size].tolist() == offered[best].tolist()
        assert scores[:size].tolist() == offered_scores[best].tolist()

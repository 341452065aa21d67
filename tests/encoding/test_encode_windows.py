"""Sessions of windows; the windows themselves are tested through `training` and `transforms`."""

import numpy as np

from sparkrec.encoding.encode_windows import items_before


def test_items_before_a_session() -> None:
    """Against a loop; zeros stand behind the last item."""
    rng = np.random.default_rng(0)
    sessions = np.sort(rng.integers(1, 5, (50, 8)), axis=1)
    sessions[0], sessions[1] = 3, np.arange(8)
    found = items_before(sessions)
    for row, counts in zip(sessions, found, strict=True):
        for place, session in enumerate(row):
            earlier = [other for other in range(place) if row[other] != session]
            assert counts[place] == (max(earlier) + 1 if earlier else 0)
    assert items_before(np.zeros((2, 1), np.int64)).tolist() == [[0], [0]]

"""Two sets of answers compared as far as floats allow it.

A score depends on the BLAS, on the CPU, and on which other queries stood in the batch, in its last
digits. So scores are equal within a tolerance, and items whose scores are that close may stand in
either order.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

Ranked = Sequence[tuple[Any, float]]
"""Items with their scores, best first."""

TOLERANCE = 1e-5


def assert_same_answers(
    found: Mapping[Hashable, Ranked],
    wanted: Mapping[Hashable, Ranked],
    tolerance: float = TOLERANCE,
) -> None:
    """Every query gets the same items with the same scores."""
    assert found.keys() == wanted.keys(), f"answered {set(found)}, asked {set(wanted)}"
    for query, ranked in wanted.items():
        assert_same_ranking(found[query], ranked, tolerance, f"query {query!r}: ")


def assert_same_ranking(
    found: Ranked, wanted: Ranked, tolerance: float = TOLERANCE, about: str = ""
) -> None:
    """Scores agree rank by rank within `tolerance`, and items agree but for near-ties.

    Neighbours whose scores in `wanted` differ by no more than `tolerance` form a group; a group
    holds the same items in any order. The list may end within the last group, so if that has two
    items or more, others with such a score may stand there. Above 1 the tolerance is relative.
    """
    assert len(found) == len(wanted), f"{about}{len(found)} items, wanted {len(wanted)}"
    for rank, ((_, score), (_, expected)) in enumerate(zip(found, wanted, strict=True)):
        assert _near(score, expected, tolerance), (
            f"{about}score {score} at rank {rank}, wanted {expected}"
        )
    starts = [
        rank
        for rank, ((_, before), (_, after)) in enumerate(pairwise(wanted), start=1)
        if not _near(before, after, tolerance)
    ]
    for start, end in pairwise([0, *starts, len(wanted)]):
        if end == len(wanted) and end - start > 1:
            continue
        group, expected_group = ({item for item, _ in r[start:end]} for r in (found, wanted))
        assert group == expected_group, (
            f"{about}items {group} at ranks {start} to {end - 1}, wanted {expected_group}"
        )
    assert len({item for item, _ in found}) == len({item for item, _ in wanted}), (
        f"{about}an item stands twice"
    )


def ranked(items: Any, scores: Any) -> list[tuple[int, float]]:
    """One query's items and scores, as a searcher gives them, without the places left empty."""
    pairs = zip(np.asarray(items).tolist(), np.asarray(scores).tolist(), strict=True)
    return [(item, score) for item, score in pairs if item >= 0]


def _near(one: float, other: float, tolerance: float) -> bool:
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)

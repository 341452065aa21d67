"""The comparison of answers that other tests rely on: what it lets pass, and what it does not."""

import numpy as np
import pytest
from answers import assert_same_answers, assert_same_ranking, ranked

WANTED = [("a", 0.9), ("b", 0.7), ("c", 0.700004), ("d", 0.5), ("e", 0.3)]


def named(names: str, *scores: float) -> list[tuple[str, float]]:
    return list(zip(names, scores or [score for _, score in WANTED], strict=True))


@pytest.mark.parametrize(
    "found",
    [
        named("abcde"),
        named("acbde"),
        named("abcde", 0.900008, 0.7, 0.7, 0.5, 0.299993),
    ],
    ids=["the same", "a near-tie turned", "other last digits"],
)
def test_what_floats_may_do_passes(found: list[tuple[str, float]]) -> None:
    assert_same_ranking(found, WANTED)
    assert_same_answers({1: found, 2: []}, {1: WANTED, 2: []})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (named("abcd", 0.9, 0.7, 0.7, 0.5), "4 items, wanted 5"),
        (named("abcde", 0.9, 0.7, 0.7, 0.50002, 0.3), "score 0.50002 at rank 3, wanted 0.5"),
        (named("abced"), "items {'e'} at ranks 3 to 3"),
        (named("abcdx"), "items {'x'} at ranks 4 to 4"),
        (named("bacde"), "items {'b'} at ranks 0 to 0"),
        (named("abxde"), "at ranks 1 to 2"),
        (named("abbde"), "at ranks 1 to 2"),
        (named("abcde", 0.9, 0.7, 0.7, float("nan"), 0.3), "score nan at rank 3"),
    ],
)
def test_what_they_may_not_do_fails(found: list[tuple[str, float]], message: str) -> None:
    with pytest.raises(AssertionError, match=f"query 1: .*{message}"):
        assert_same_answers({1: found}, {1: WANTED})


def test_a_list_may_end_within_a_tie() -> None:
    tied = [("a", 2.0), ("b", 1.0), ("c", 1.0)]
    assert_same_ranking([("a", 2.0), ("c", 1.0), ("d", 1.0)], tied)
    with pytest.raises(AssertionError, match="stands twice"):
        assert_same_ranking([("a", 2.0), ("c", 1.0), ("c", 1.0)], tied)
    with pytest.raises(AssertionError, match="at ranks 0 to 0"):
        assert_same_ranking([("b", 2.0), ("c", 1.0), ("d", 1.0)], tied)


def test_large_scores_are_compared_by_their_size() -> None:
    assert_same_ranking([("a", 1000.005)], [("a", 1000.0)])
    with pytest.raises(AssertionError, match="at rank 0"):
        assert_same_ranking([("a", 1000.02)], [("a", 1000.0)])


def test_queries_answered_are_those_asked() -> None:
    with pytest.raises(AssertionError, match="asked"):
        assert_same_answers({1: WANTED}, {1: WANTED, 2: WANTED})


def test_empty_places_are_left_out() -> None:
    assert ranked(np.array([4, 0, -1]), np.array([0.5, 0.25, -np.inf])) == [(4, 0.5), (0, 0.25)]

"""Sessions side by side: every event once, in order, with a new state at a session's start."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparkrec.training.step.session_batches import session_batches


def batches_of(sessions: list[list[int]], size: int) -> list[dict[str, Tensor]]:
    """Padded to the longest of all, `size` sessions a batch."""
    width = max(map(len, sessions), default=2)
    rows = torch.zeros(len(sessions), width, dtype=torch.long)
    for place, session in enumerate(sessions):
        rows[place, : len(session)] = torch.tensor(session)
    return [{"items": part} for part in rows.split(size)] if sessions else []


def walked(steps: list[dict[str, Tensor]]) -> list[list[int]]:
    """The sessions again, from the steps, by following the places through `kept`."""
    done: list[list[int]] = []
    open_places: list[list[int]] = []
    for step in steps:
        open_places = [
            open_places[place] if place < len(open_places) else []
            for place in step["kept"].tolist()
        ]
        for place, (item, target, starts) in enumerate(
            zip(
                step["input"].tolist(),
                step["target"].tolist(),
                step["starts"].tolist(),
                strict=True,
            )
        ):
            if starts:
                open_places[place] = [item]
                done.append(open_places[place])
            assert open_places[place][-1] == item
            open_places[place].append(target)
    return done


def test_by_hand() -> None:
    sessions = [[2, 3, 4], [5, 6], [7, 8, 9, 10], [11, 12]]
    steps = [
        [values.tolist() for values in step.values()]
        for step in session_batches(batches_of(sessions, 3), size=2)
    ]
    yes, no = True, False
    assert steps == [
        [[2, 5], [3, 6], [yes, yes], [0, 1]],
        [[3, 7], [4, 8], [no, yes], [0, 1]],
        [[11, 8], [12, 9], [yes, no], [0, 1]],
        # The first place has closed: the other goes on to its end.
        [[9], [10], [no], [1]],
    ]


@given(
    lengths=st.lists(st.integers(2, 9), max_size=30),
    places=st.integers(1, 8),
    size=st.integers(1, 12),
)
@settings(max_examples=100, deadline=None)
def test_every_session_is_walked_whole(lengths: list[int], places: int, size: int) -> None:
    sessions, item = [], 2
    for length in lengths:
        sessions.append(list(range(item, item + length)))
        item += length
    steps = list(session_batches(batches_of(sessions, size), places))
    assert sorted(walked(steps)) == sessions
    assert sum(len(step["input"]) for step in steps) == sum(lengths) - len(lengths)
    # No place is closed while a session waits.
    widths = [len(step["input"]) for step in steps]
    assert widths == sorted(widths, reverse=True)
    if sessions:
        assert widths[0] == min(places, len(sessions))

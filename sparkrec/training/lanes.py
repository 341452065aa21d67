"""Sessions side by side: the session-parallel batches that GRU4Rec is trained with.

Hidasi et al., ICLR 2016, section 3.1.1: every lane walks through a session, one event a step. A
lane whose session is over takes the next one in the same step, and its state begins anew. When no
session is left, a finished lane closes and the others go on to their ends, so that every event is
trained on once; the last few steps are narrower.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]


def session_steps(batches: Iterable[dict[str, Tensor]], lanes: int) -> Iterator[dict[str, Tensor]]:
    """The steps of all sessions; lanes run across the borders of batches.

    Parameters
    ----------
    batches
        Each with `items` [sessions, width]: dense items, oldest first, 0 behind the last; two or
        more a session.

    Yields
    ------
    dict
        `input` and `target`, dense items [open lanes]; `starts`, True where the input is a
        session's first [open lanes]; and `kept` [open lanes], the place that each lane had in the
        step before (of one that has just opened it says nothing: there `starts` is True).
    """
    sessions = _Sessions(batches)
    # Of every open lane: its session, and the places of its next event and of its last.
    rows: list[Ints] = []
    while len(rows) < lanes and (row := sessions.next()) is not None:
        rows.append(row)
    width = max(map(len, rows), default=0)
    table = np.zeros((len(rows), width), np.int64)
    ends = np.zeros(len(rows), np.int64)
    for lane, row in enumerate(rows):
        table[lane, : len(row)], ends[lane] = row, len(row) - 1
    place = np.zeros(len(rows), np.int64)
    kept = every = np.arange(len(rows))
    while len(kept):
        starts = place == 0
        step = {"input": table[every, place], "target": table[every, place + 1]}
        step |= {"starts": starts, "kept": kept}
        yield {name: torch.from_numpy(values) for name, values in step.items()}
        place = place + 1
        closed = []
        for lane in map(int, np.flatnonzero(place == ends)):
            following = sessions.next()
            if following is None:
                closed.append(lane)
                continue
            if len(following) > table.shape[1]:
                more = len(following) - table.shape[1]
                table = np.pad(table, ((0, 0), (0, more)))
            table[lane, : len(following)] = following
            place[lane], ends[lane] = 0, len(following) - 1
        kept = np.delete(np.arange(len(place)), closed) if closed else every
        if closed:
            table, ends, place = table[kept], ends[kept], place[kept]
            every = np.arange(len(kept))


class _Sessions:
    """Hands out one session after another, without the padding behind it."""

    def __init__(self, batches: Iterable[dict[str, Tensor]]) -> None:
        self._batches = iter(batches)
        self._items = np.zeros((0, 0), np.int64)
        self._lengths = np.zeros(0, np.int64)
        self._next = 0

    def next(self) -> Ints | None:
        while self._next == len(self._items):
            batch = next(self._batches, None)
            if batch is None:
                return None
            self._items = batch["items"].numpy()
            self._lengths = (self._items != 0).sum(axis=1)
            self._next = 0
        row = self._items[self._next, : self._lengths[self._next]]
        self._next += 1
        return row

"""Session-parallel mini-batches, as GRU4Rec is trained with.

Hidasi et al., ICLR 2016, section 3.1.1: every place of the batch walks through a session, one event
a step. A place whose session is over takes the next session in the same step, and its state begins
anew. When no session is left, a finished place closes and the others go on to their ends, so that
every event is trained on once; the last few batches are narrower.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]


def session_batches(batches: Iterable[dict[str, Tensor]], size: int) -> Iterator[dict[str, Tensor]]:
    """The session-parallel batches of all sessions.

    Parameters
    ----------
    batches
        Each with `items` [sessions, width]: dense items, oldest first, 0 behind the last; two or
        more a session.
    size
        Places of a batch: sessions that are walked through at once.

    Yields
    ------
    dict
        `input` and `target`, dense items [open places]; `starts`, True where the input is a
        session's first [open places]; and `kept` [open places], where each of them stood in the
        batch before (of one that has just opened it says nothing: there `starts` is True).
    """
    sessions = _Sessions(batches)
    # Of every open place: its session, the positions of its next event and of its last.
    table, ends = sessions.take(size)
    position = np.zeros(len(ends), np.int64)
    kept = every = np.arange(len(ends))
    while len(kept):
        step = {"input": table[every, position], "target": table[every, position + 1]}
        step |= {"starts": position == 0, "kept": kept}
        yield {name: torch.from_numpy(values) for name, values in step.items()}
        position = position + 1
        kept = every
        over = np.flatnonzero(position == ends)
        if not len(over):
            continue
        rows, lasts = sessions.take(len(over))
        if rows.shape[1] > table.shape[1]:
            table = np.pad(table, ((0, 0), (0, rows.shape[1] - table.shape[1])))
        going_on = over[: len(rows)]
        table[going_on, : rows.shape[1]] = rows
        position[going_on], ends[going_on] = 0, lasts
        if len(going_on) < len(over):
            kept = np.delete(every, over[len(rows) :])
            table, ends, position = table[kept], ends[kept], position[kept]
            every = np.arange(len(kept))


class _Sessions:
    """Hands out sessions in their order."""

    def __init__(self, batches: Iterable[dict[str, Tensor]]) -> None:
        self._batches = iter(batches)
        self._items = np.zeros((0, 0), np.int64)
        self._next = 0

    def take(self, count: int) -> tuple[Ints, Ints]:
        """Up to `count` sessions, [sessions, width] with 0 behind the last event, and the position
        of that event, [sessions]; fewer where no more are left."""
        taken: list[Ints] = []
        while count:
            if self._next == len(self._items):
                batch = next(self._batches, None)
                if batch is None:
                    break
                self._items, self._next = batch["items"].numpy(), 0
            some = self._items[self._next : self._next + count]
            self._next += len(some)
            count -= len(some)
            taken.append(some)
        width = max((some.shape[1] for some in taken), default=0)
        rows = np.zeros((sum(map(len, taken)), width), np.int64)
        filled = 0
        for some in taken:
            rows[filled : filled + len(some), : some.shape[1]] = some
            filled += len(some)
        return rows, (rows != 0).sum(axis=1) - 1

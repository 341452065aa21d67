"""Session-parallel mini-batches, with which GRU4Rec is trained.

Hidasi et al., ICLR 2016, section 3.1.1: every lane of the batch reads a session, one event per
step. When its session ends, the lane starts the next session in the same step, with a new state.
When no session is left, the lane closes and the other lanes continue to the ends of their sessions.
So every event is trained on once, and the last batches are narrower.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]


def session_batches(batches: Iterable[dict[str, Tensor]], size: int) -> Iterator[dict[str, Tensor]]:
    """Yield the session-parallel batches of all sessions.

    Parameters
    ----------
    batches
        Each with `items` [sessions, width]: dense item indices, oldest first, with padding (0)
        after the last; at least two items per session.
    size
        Number of lanes of a batch: sessions that are trained in parallel.

    Yields
    ------
    dict
        `input` and `target`, dense item indices [open lanes]; `starts` [open lanes], True where
        the input is the first item of a session; and `kept` [open lanes], the number of the lane in
        the previous batch (meaningless where `starts` is True).
    """
    sessions = _Sessions(batches)
    # For every open lane: its session, and the positions of its next and of its last event.
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
    """Returns sessions in their order."""

    def __init__(self, batches: Iterable[dict[str, Tensor]]) -> None:
        self._batches = iter(batches)
        self._items = np.zeros((0, 0), np.int64)
        self._next = 0

    def take(self, count: int) -> tuple[Ints, Ints]:
        """Take up to `count` sessions; fewer if no more are left.

        Returns
        -------
        items, lasts
            [sessions, width], with padding (0) after the last event; and the position of the last
            event, [sessions].
        """
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

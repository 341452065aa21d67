"""Which of the rows each training process reads."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """What a rank reads: every `shards`-th row group, and of each every `step`-th row."""

    shard: int
    shards: int
    start: int
    step: int
    rows: int

    @classmethod
    def of(cls, rank: int, world: int, groups: Sequence[int]) -> "Share":
        """The share of a rank, from the numbers of rows of all row groups.

        Where there are fewer row groups than ranks, several ranks divide the rows of one. If there
        are not enough for all of them, some read the same rows.
        """
        shards = min(world, len(groups))
        shard, start = rank % shards, rank // shards
        step = len(range(shard, world, shards))
        for first in (start, 0):
            rows = sum(len(range(first, n, step)) for n in groups[shard::shards])
            if rows:
                break
        return cls(shard, shards, first, step, rows)

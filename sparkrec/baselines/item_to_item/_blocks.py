"""Item blocks: the work of an item-to-item model, shared among tasks without a self-join.

Two shuffles and no more. `spread` brings all events of a user to one task, which makes the user's
row and sends it to every block that has one of its items. `solve` gives every block to one task,
which then holds all that it needs to compare its own items with all others.

The rows of a user with n items travel to at most min(n, blocks) blocks, at 2 bytes an item (4 from
65,536 items on). Items are dealt out by popularity, forth and back, so that blocks are alike.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.baselines.item_to_item._gather import gathered, order_columns
from sparkrec.baselines.item_to_item._user_rows import How, Ints, Numbers, UserRows
from sparkrec.columns import Columns
from sparkrec.compiled import compiled
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.session import slots

Scores = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]
# Items, their neighbours [items, K] with -1 for none, and the scores of these.
Found = tuple[Numbers, Numbers, Scores]

_MESSAGES = "block int, source int, totals binary, content binary"
_NEIGHBOURS = "item int, neighbours array<int>, scores array<double>"
# About 60 bytes an event in the Python worker (with ids of 8 bytes; text needs its length more).
_PARTITION_EVENTS = 4_000_000
_MESSAGE_ITEMS = 4_000_000


def spread(
    events: DataFrame,
    catalogue: Catalogue,
    columns: Columns,
    blocks: int,
    max_items: int | None = None,
    how: How = "recent",
    seed: int = 0,
    measure: Callable[[UserRows], Scores] | None = None,
    partition_events: int = _PARTITION_EVENTS,
) -> DataFrame:
    """Send the row of every user to each item block that has one of its items.

    Parameters
    ----------
    events
        One row an event; rows without user or item are dropped.
    catalogue
        The items of these events, `count_catalogue(events, item)`.
    columns
        Names of the columns. Timestamp and position are read with `how="recent"` alone, and the
        position only if there is one.
    blocks
        Number of blocks, see `share_out`.
    max_items, how, seed
        See `user_rows`.
    measure
        A vector (float64, of any one length) for the rows of a partition. The vectors of all
        partitions are added up, and every block gets the sum. It costs one vector for each pair
        of partition and block, which is little beside the rows as long as a partition has more
        events than there are items.
    partition_events
        Events of a partition, about; what bounds a task's memory (60 bytes an event).

    Returns
    -------
    DataFrame
        `block`, `source` (the partition), `totals` (a partition's vector, once for each block) and
        `content` (`UserRows.to_bytes`, at most 4 million items or one user).
    """
    spark = events.sparkSession
    wanted = [columns.user, columns.item]
    if how == "recent":
        wanted += order_columns(events, columns)
    user, item = F.col(f"`{columns.user}`"), F.col(f"`{columns.item}`")
    parts = _multiple(int(catalogue.counts.sum()) / partition_events, slots(spark))
    shared = spark.sparkContext.broadcast((catalogue, share_out(catalogue, blocks)))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        items, block_of = shared.value
        rows = gathered(list(batches), items, max_items, how, seed)
        totals = None if measure is None else measure(rows).tobytes()
        context = TaskContext.get()
        source = context.partitionId() if context else 0
        for block in range(blocks):
            mine = rows.take(np.flatnonzero(_touched(rows.indptr, rows.items, block_of, block)))
            for i, message in enumerate(_cut(mine, _MESSAGE_ITEMS)):
                first = totals if i == 0 else None
                yield _message(block, source, first, message.to_bytes())

    return (
        events.select(*[F.col(f"`{name}`") for name in wanted])
        .where(user.isNotNull() & item.isNotNull())
        .repartition(parts, user)
        .mapInArrow(run, _MESSAGES)
    )


def share_out(catalogue: Catalogue, blocks: int) -> Numbers:
    """[items]: the block of each item, dealt out by popularity, forth and back."""
    turn = np.arange(len(catalogue)) % (2 * blocks)
    dealt = np.empty(len(catalogue), np.int32)
    dealt[catalogue.popular] = np.where(turn < blocks, turn, 2 * blocks - 1 - turn)
    return dealt


def count_blocks(spark: SparkSession, least: float = 1) -> int:
    """At least so many blocks, in whole rounds of the task slots, two rounds at least."""
    return _multiple(least, 2 * slots(spark))


class Block:
    """What the task of one block has: its items, and the rows of all users with one of them.

    Attributes
    ----------
    items
        int32, ascending: the items that are the block's own.
    """

    def __init__(self, items: Numbers, batches: Iterable[pa.RecordBatch]) -> None:
        self.items = items
        self._batches = batches
        self._sum: Scores = np.zeros(1)
        self._summed = 0
        self._ahead: dict[int, Scores] = {}

    @property
    def totals(self) -> Scores:
        """The sum of `measure` over all partitions; complete once the last chunk is there."""
        return np.sum([self._sum, *[self._ahead[key] for key in sorted(self._ahead)]], axis=0)

    def chunks(self, size: int) -> Iterator[tuple[UserRows, bool]]:
        """The rows in chunks of at most `size` items (or one message), and which is the last.

        One chunk, always in the same order, if all of them fit.
        """
        waiting: list[tuple[int, UserRows]] = []
        held = 0
        for source, rows in self._messages():
            if held and held + len(rows.items) > size:
                yield _joined(waiting), False
                waiting, held = [], 0
            waiting.append((source, rows))
            held += len(rows.items)
        yield _joined(waiting), True

    def rows(self) -> UserRows:
        """All rows at once."""
        return next(self.chunks(np.iinfo(np.int64).max))[0]

    def _messages(self) -> Iterator[tuple[int, UserRows]]:
        for batch in self._batches:
            for source, totals, content in zip(*batch.columns[1:], strict=True):
                number = source.as_py()
                if totals.is_valid:
                    self._add(number, np.frombuffer(totals.as_buffer(), np.float64))
                yield number, UserRows.from_bytes(content.as_buffer())

    def _add(self, source: int, vector: Scores) -> None:
        """Add up in the order of the sources, whatever order they come in."""
        self._ahead[source] = vector
        while self._summed in self._ahead:
            self._sum = self._sum + self._ahead.pop(self._summed)
            self._summed += 1


class Kernel(Protocol):
    """What a task does with its block. Must be picklable."""

    def __call__(self, block: Block) -> Iterator[Found]:
        """The neighbours of the block's items, best first."""


def solve(messages: DataFrame, catalogue: Catalogue, blocks: int, kernel: Kernel) -> DataFrame:
    """Run the kernel on every block, one task each.

    Returns
    -------
    DataFrame
        `item`, `neighbours`, `scores`: item numbers, best first; items without any have no row.
    """
    spark = messages.sparkSession
    shared = spark.sparkContext.broadcast(share_out(catalogue, blocks))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        stream = iter(batches)
        first = next(stream, None)
        if first is None:
            return
        number = first.column(0)[0].as_py()
        items = np.flatnonzero(shared.value == number).astype(np.int32)
        for found in kernel(Block(items, _again(first, stream))):
            yield _as_batch(*found)

    return messages.repartitionById(blocks, F.col("block")).mapInArrow(run, _NEIGHBOURS)


def collect_neighbours(solved: DataFrame, items: int, width: int) -> tuple[Numbers, Scores]:
    """What `solve` found as arrays [items, width], -1 and 0 where there is nothing."""
    neighbours = np.full((items, width), -1, np.int32)
    scores = np.zeros((items, width))
    for batch in solved.toArrow().to_batches():
        lengths = np.asarray(pa.compute.list_value_length(batch.column(1)))
        starts = np.cumsum(lengths) - lengths
        row = np.repeat(np.asarray(batch.column(0)), lengths)
        place = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
        neighbours[row, place] = np.asarray(pa.compute.list_flatten(batch.column(1)))
        scores[row, place] = np.asarray(pa.compute.list_flatten(batch.column(2)))
    return neighbours, scores


# ------------------------------------------------------------------------------------ helpers


def _multiple(least: float, factor: int) -> int:
    return max(1, int(np.ceil(least / factor))) * factor


def _cut(rows: UserRows, size: int) -> Iterator[UserRows]:
    """The rows in parts of at most `size` items, or one user; one part at least."""
    start = 0
    while True:
        limit = rows.indptr[start] + size
        stop = int(np.searchsorted(rows.indptr, limit, side="right")) - 1
        stop = min(max(stop, start + 1), len(rows))
        yield rows.slice(start, stop)
        start = stop
        if start >= len(rows):
            return


def _message(block: int, source: int, totals: bytes | None, content: bytes) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            pa.array([block], pa.int32()),
            pa.array([source], pa.int32()),
            pa.array([totals], pa.binary()),
            pa.array([content], pa.binary()),
        ],
        ["block", "source", "totals", "content"],
    )


def _joined(parts: list[tuple[int, UserRows]]) -> UserRows:
    # By source: messages of other machines come in any order, and sums depend on it.
    return UserRows.concatenate([rows for _, rows in sorted(parts, key=lambda part: part[0])])


def _again(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _as_batch(items: Numbers, neighbours: Numbers, scores: Scores) -> pa.RecordBatch:
    given = neighbours >= 0
    some = given.any(axis=1)
    ends = np.cumsum(given[some].sum(axis=1))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pa.RecordBatch.from_arrays(
        [
            pa.array(items[some]),
            pa.ListArray.from_arrays(offsets, pa.array(neighbours[given])),
            pa.ListArray.from_arrays(offsets, pa.array(scores[given])),
        ],
        ["item", "neighbours", "scores"],
    )


@compiled
def _touched(indptr: Ints, items: Numbers, block_of: Numbers, block: int) -> Bits:
    """[users]: whether the user has an item of the block."""
    touched = np.zeros(len(indptr) - 1, np.bool_)
    for user in range(len(touched)):
        for i in range(indptr[user], indptr[user + 1]):
            if block_of[items[i]] == block:
                touched[user] = True
                break
    return touched

"""Item blocks divide the work of an item-to-item model among tasks without a self-join.

A block is a set of items; one task computes the neighbours of its items. There are only two
shuffles. `spread` brings all events of a user to one task, which makes the user's row (the list of
the user's items) and sends it to every block that contains one of these items. `solve` gives every
block to one task, which then has all rows that it needs to compare its items with all others.

The row of a user with n items is sent to at most min(n, blocks) blocks, at 2 bytes per item (4
bytes in catalogues of more than 65,536 items). Items are assigned to blocks in snake order of
popularity, to balance the load.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.baselines.item_to_item._gather import WEIGHT, gathered, order_columns
from sparkrec.baselines.item_to_item._user_rows import How, Numbers, UserRows
from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.session import slots
from sparkrec.spark_versions import repartition_by_id, to_arrow

Scores = npt.NDArray[np.float64]
# Items [items], their neighbours [items, K] (-1 where there are fewer than K), and the scores of
# the neighbours [items, K].
Found = tuple[Numbers, Numbers, Scores]

_MESSAGES = "block int, source int, totals binary, content binary"
_NEIGHBOURS = "item int, neighbours array<int>, scores array<double>"
# A Python worker needs about 60 bytes per event (with ids of 8 bytes; text ids add their length).
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
    weight: str | None = None,
) -> DataFrame:
    """Send the row of every user to each item block that contains one of the user's items.

    Parameters
    ----------
    events
        One row per event; rows without user or item are dropped.
    catalogue
        The items of these events, `count_catalogue(events, item)`.
    columns
        Names of the columns. Timestamp and position are only read with `how="recent"`, and the
        position only if the table has that column.
    blocks
        Number of blocks, see `assign_blocks`.
    max_items, how, seed
        See `user_rows`.
    measure
        Computes a float64 vector from the rows of a partition. Its length must be the same for all
        partitions. The vectors of all partitions are summed, and every block gets the sum. One
        vector is sent for each pair of partition and block, which is little compared with the rows
        if a partition has more events than there are items.
    partition_events
        Approximate number of events in a partition. It limits the memory of a task (60 bytes per
        event).
    weight
        Column of the weight of an event; rows then have weights.

    Returns
    -------
    DataFrame
        One row per message: `block`, `source` (number of the partition), `totals` (the partition's
        vector, in the first message to each block) and `content` (`UserRows.to_bytes`, at most 4
        million items or one user).
    """
    spark = events.sparkSession
    wanted = [columns.user, columns.item]
    if how == "recent":
        wanted += order_columns(events, columns)
    chosen = [F.col(f"`{name}`") for name in wanted]
    if weight is not None:
        chosen.append(F.col(f"`{weight}`").cast("double").alias(WEIGHT))
    user, item = F.col(f"`{columns.user}`"), F.col(f"`{columns.item}`")
    parts = _multiple(int(catalogue.counts.sum()) / partition_events, slots(spark))
    shared = spark.sparkContext.broadcast((catalogue, assign_blocks(catalogue, blocks)))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        items, block_of = shared.value
        rows = gathered(list(batches), items, max_items, how, seed)
        totals = None if measure is None else measure(rows).tobytes()
        context = TaskContext.get()
        source = context.partitionId() if context else 0
        for block in range(blocks):
            mine = rows.of_block(block_of, block)
            for i, message in enumerate(_cut(mine, _MESSAGE_ITEMS)):
                first = totals if i == 0 else None
                yield _message(block, source, first, message.to_bytes())

    return (
        events.select(*chosen)
        .where(user.isNotNull() & item.isNotNull())
        .repartition(parts, user)
        .mapInArrow(run, _MESSAGES)
    )


def assign_blocks(catalogue: Catalogue, blocks: int) -> Numbers:
    """The block of each item, int32 [items].

    Items are assigned in snake order of popularity (0, 1, 2, 2, 1, 0, 0, ...), to balance the load.
    """
    turn = np.arange(len(catalogue)) % (2 * blocks)
    assigned = np.empty(len(catalogue), np.int32)
    assigned[catalogue.popular] = np.where(turn < blocks, turn, 2 * blocks - 1 - turn)
    return assigned


def count_blocks(spark: SparkSession, least: float = 1) -> int:
    """The smallest multiple of twice the number of task slots that is at least `least`."""
    return _multiple(least, 2 * slots(spark))


class Block:
    """The input of the task of one block: its items, and the rows of all users with one of them.

    Attributes
    ----------
    items
        int32, ascending: the items of the block.
    """

    def __init__(self, items: Numbers, batches: Iterable[pa.RecordBatch]) -> None:
        self.items = items
        self._batches = batches
        self._sum: Scores = np.zeros(1)
        self._summed = 0
        self._ahead: dict[int, Scores] = {}

    @property
    def totals(self) -> Scores:
        """The sum of `measure` over all partitions; complete after the last chunk was read."""
        return np.sum([self._sum, *[self._ahead[key] for key in sorted(self._ahead)]], axis=0)

    def chunks(self, size: int) -> Iterator[tuple[UserRows, bool]]:
        """Yield chunks of rows of at most `size` items (or one message), and if it is the last.

        If all rows fit into one chunk, their order is always the same.
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
        """Add a vector to the sum. Vectors are summed by source, in whatever order they arrive."""
        self._ahead[source] = vector
        while self._summed in self._ahead:
            self._sum = self._sum + self._ahead.pop(self._summed)
            self._summed += 1


class Kernel(Protocol):
    """The computation of a task on its block. Must be picklable."""

    def __call__(self, block: Block) -> Iterator[Found]:
        """Yield the neighbours of the block's items, best first."""


def solve(messages: DataFrame, catalogue: Catalogue, blocks: int, kernel: Kernel) -> DataFrame:
    """Run the kernel on every block, one task each.

    Returns
    -------
    DataFrame
        `item`, `neighbours` and `scores`: item numbers, best neighbour first. Items without
        neighbours have no row.
    """
    spark = messages.sparkSession
    shared = spark.sparkContext.broadcast(assign_blocks(catalogue, blocks))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        stream = iter(batches)
        first = next(stream, None)
        if first is None:
            return
        number = first.column(0)[0].as_py()
        items = np.flatnonzero(shared.value == number).astype(np.int32)
        for found in kernel(Block(items, _again(first, stream))):
            yield _as_batch(*found)

    return repartition_by_id(messages, blocks, F.col("block")).mapInArrow(run, _NEIGHBOURS)


def collect_neighbours(solved: DataFrame, items: int, width: int) -> tuple[Numbers, Scores]:
    """Collect the result of `solve` as arrays [items, width]; unused places hold -1 and 0."""
    neighbours = np.full((items, width), -1, np.int32)
    scores = np.zeros((items, width))
    for batch in to_arrow(solved).to_batches():
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
    """Cut the rows into parts of at most `size` items or one user. Yields at least one part."""
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
    # Sorted by source, because messages from other machines arrive in any order and the rounding of
    # sums depends on the order.
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

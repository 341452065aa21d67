"""Rows sent to item blocks and solved there: every block has all it needs, and nothing is lost."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines.item_to_item import _blocks
from sparkrec.baselines.item_to_item._blocks import (
    Block,
    Found,
    assign_blocks,
    collect_neighbours,
    count_blocks,
    solve,
    spread,
)
from sparkrec.baselines.item_to_item._user_rows import UserRows
from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.errors import DataError

USERS, ITEMS = 30, 11


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    """User u has the items u, u + 1, ... (u % 5 + 1 of them) modulo 11, in that order."""
    rows = [
        (f"user {user}", f"item {(user + i) % ITEMS:02}", i, user * 10 + i)
        for user in range(USERS)
        for i in range(user % 5 + 1)
    ]
    odd = [(None, "item 01", 1, 1000), ("user 1", None, 1, 1001)]
    schema = "user_id string, item_id string, timestamp long, position long"
    return spark.createDataFrame(rows + odd, schema).coalesce(2).cache()


@pytest.fixture(scope="module")
def catalogue(events: DataFrame) -> Catalogue:
    return count_catalogue(events, "item_id")


def rows_of(user: int) -> list[int]:
    return [(user + i) % ITEMS for i in range(user % 5 + 1)]


def received(messages: DataFrame) -> dict[int, list[list[int]]]:
    """The rows of every block."""
    found: dict[int, list[list[int]]] = {}
    for message in messages.collect():
        rows = UserRows.from_bytes(bytes(message["content"]))
        lists = [rows.slice(user, user + 1).items.tolist() for user in range(len(rows))]
        found.setdefault(message["block"], []).extend(lists)
    return found


@pytest.mark.parametrize("partition_events", [10, 4_000_000])
def test_a_block_gets_the_whole_row_of_each_user_with_one_of_its_items(
    events: DataFrame, catalogue: Catalogue, partition_events: int
) -> None:
    blocks = 3
    block_of = assign_blocks(catalogue, blocks)
    found = received(
        spread(events, catalogue, Columns(), blocks, partition_events=partition_events)
    )
    for block in range(blocks):
        wanted = [
            rows_of(user)
            for user in range(USERS)
            if any(block_of[item] == block for item in rows_of(user))
        ]
        assert sorted(found[block]) == sorted(wanted)


def test_long_rows_travel_in_several_messages() -> None:
    rows = UserRows(np.array([0, 3, 4, 6, 6, 11]), np.arange(11, dtype=np.int32))
    parts = [part.lengths.tolist() for part in _blocks._cut(rows, 4)]
    assert parts == [[3, 1], [2, 0], [5]]
    assert [len(part) for part in _blocks._cut(rows.slice(0, 0), 4)] == [0]


def test_rows_are_capped_and_sampled_alike_whatever_the_partitions(
    events: DataFrame, catalogue: Catalogue
) -> None:
    for how in ("recent", "sampled"):
        few, many = (
            received(spread(frame, catalogue, Columns(), 2, 2, how, 3, partition_events=size))
            for frame, size in ((events, 4_000_000), (events.repartition(5), 7))
        )
        assert {b: sorted(rows) for b, rows in few.items()} == {
            b: sorted(rows) for b, rows in many.items()
        }
        assert max(len(row) for rows in few.values() for row in rows) == 2


class Census:
    """A kernel that tells of each item how many users have it, and how many users there are."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, block: Block) -> Iterator[Found]:
        counts = np.zeros(ITEMS)
        for rows, last in block.chunks(self.size):
            counts += np.bincount(rows.items, minlength=ITEMS)
            if last:
                yield self.found(block, counts)

    def found(self, block: Block, counts: np.ndarray) -> Found:
        neighbours = np.full((len(block.items), 3), -1, np.int32)
        neighbours[:, 0] = block.items
        scores = np.zeros((len(block.items), 3))
        scores[:, 0] = counts[block.items] + block.totals[0] / 100
        return block.items, neighbours, scores


def count_users(rows: UserRows) -> np.ndarray:
    return np.array([float(len(rows))])


@pytest.mark.parametrize(("size", "partition_events"), [(1, 4_000_000), (10**6, 7), (5, 7)])
def test_every_item_is_solved_once_with_all_its_users_and_the_totals(
    events: DataFrame, catalogue: Catalogue, size: int, partition_events: int
) -> None:
    messages = spread(
        events,
        catalogue,
        Columns(),
        4,
        measure=count_users,
        partition_events=partition_events,
    )
    solved = solve(messages, catalogue, 4, Census(size))
    assert solved.count() == ITEMS
    neighbours, scores = collect_neighbours(solved, ITEMS, 3)
    counts = np.bincount(np.concatenate([rows_of(user) for user in range(USERS)]))
    assert neighbours[:, 0].tolist() == list(range(ITEMS))
    assert (neighbours[:, 1:] == -1).all()
    assert scores[:, 0] == pytest.approx(counts + USERS / 100)


def test_each_block_is_one_task(events: DataFrame, catalogue: Catalogue) -> None:
    messages = spread(events, catalogue, Columns(), 6)
    solved = solve(messages, catalogue, 6, Census(10**6))
    assert solved.rdd.getNumPartitions() == 6


def test_blocks_are_assigned_in_snake_order_of_popularity() -> None:
    ids = pa.array(range(10))
    block_of = assign_blocks(Catalogue(ids, np.arange(10, 0, -1)), 3)
    assert block_of.tolist() == [0, 1, 2, 2, 1, 0, 0, 1, 2, 2]


def test_there_are_two_rounds_of_blocks_at_least(spark: SparkSession) -> None:
    slots = spark.sparkContext.defaultParallelism
    assert count_blocks(spark) == 2 * slots
    assert count_blocks(spark, 2 * slots + 0.5) == 4 * slots


def test_chunks_keep_the_order_of_the_sources() -> None:
    def message(source: int, items: list[int], total: float) -> pa.RecordBatch:
        rows = UserRows(np.array([0, len(items)]), np.array(items, np.int32))
        return _blocks._message(0, source, np.array([total]).tobytes(), rows.to_bytes())

    batches = [message(2, [5, 6], 1e-16), message(0, [1], 1.0), message(1, [3, 2], 1e-16)]
    block = Block(np.arange(7, dtype=np.int32), batches)
    assert block.rows().items.tolist() == [1, 3, 2, 5, 6]
    assert block.totals.tolist() == [1.0]
    sizes = [(rows.items.tolist(), last) for rows, last in Block(block.items, batches).chunks(3)]
    assert sizes == [([1, 5, 6], False), ([3, 2], True)]


def test_order_needs_a_timestamp_that_can_be_ordered(
    events: DataFrame, catalogue: Catalogue
) -> None:
    with pytest.raises(DataError, match="train has no column `timestamp`"):
        spread(events.drop("timestamp"), catalogue, Columns(), 2)
    with pytest.raises(DataError, match="column `timestamp` is array<int>, but must be"):
        spread(
            events.selectExpr("user_id", "item_id", "array(1) AS timestamp"),
            catalogue,
            Columns(),
            2,
        )
    unordered = spread(events.select("user_id", "item_id"), catalogue, Columns(), 2, how="sampled")
    assert len(received(unordered)) == 2


@pytest.mark.parametrize(
    "time",
    [
        "timestamp_seconds(timestamp)",
        "CAST(timestamp AS double)",
        "date_add('2020-01-01', int(timestamp))",
    ],
)
def test_times_of_all_kinds_order_events(
    events: DataFrame, catalogue: Catalogue, time: str
) -> None:
    timed = events.selectExpr("user_id", "item_id", f"{time} AS timestamp")
    found = received(spread(timed.where("timestamp IS NOT NULL"), catalogue, Columns(), 1))
    assert sorted(found[0]) == sorted(rows_of(user) for user in range(USERS))


def test_events_that_are_not_those_of_the_catalogue_are_refused(
    events: DataFrame, catalogue: Catalogue
) -> None:
    fewer = Catalogue(catalogue.ids[1:], catalogue.counts[1:])
    with pytest.raises(Exception, match="gives different rows each time it is computed"):
        spread(events, fewer, Columns(), 2).count()

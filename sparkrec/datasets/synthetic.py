"""Synthetic events of any number, made with a seed, with known popularity and structure.

They are for benchmarks and growth curves. Items are drawn by Zipf's law. The next item of a user is
one of a few successors of the last item, or a new draw. So the data has a structure that models of
item pairs and of sequences can learn, and that is the same for every size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError
from sparkrec.session import slots

Ints = npt.NDArray[np.int64]

_ITEMS_STREAM = 2**64 - 1
_CHUNK_WALKS = 1000
_TASK_CHUNKS = 10
_START = 1_600_000_000
_YEAR = 365 * 86_400
_LONGEST_PAUSE = 600


@dataclass(frozen=True)
class Shape:
    """Properties of the events.

    Attributes
    ----------
    items
        Number of items. The r-th most popular item (from 1) has a share of about 1 / r (Zipf's law
        with exponent 1).
    events_per_user
        Mean number of events of a user; a user has between 0.1 and 1.9 times as many.
    follow
        Probability that the next item is a successor of the last one.
    successors
        Number of successors of an item, all equally likely. They are at most 8 times more or less
        popular than the item, so that the distribution of popularity does not change.
    heavy_user_events
        Number of events of one additional user.
    common_item
        Whether the first event of every user has the most popular item.
    text_ids
        Whether ids are text, such as `user-7` and `item-7`.
    """

    items: int = 20_000
    events_per_user: int = 100
    follow: float = 0.5
    successors: int = 4
    heavy_user_events: int = 0
    common_item: bool = False
    text_ids: bool = False

    def __post_init__(self) -> None:
        for name in ("items", "events_per_user", "successors"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1")
        if self.heavy_user_events < 0:
            raise ConfigError("heavy_user_events must be at least 0")
        if not 0 <= self.follow <= 1:
            raise ConfigError("follow must be between 0 and 1")


def synthetic_events(
    spark: SparkSession,
    events: int,
    seed: int = 0,
    columns: Columns | None = None,
    shape: Shape | None = None,
) -> DataFrame:
    """Make events of events / `events_per_user` users.

    Parameters
    ----------
    events
        Number of events, without those of the heavy user.
    seed
        Events are a function of (events, seed, shape), however they are partitioned.
    columns
        Names of the four columns.
    shape
        Properties of the events; by default the defaults of `Shape`.

    Returns
    -------
    DataFrame
        User and item (int64, or text), timestamp (int64, seconds) and position (int64, distinct
        from 0, consecutive for the events of a user). Item ids are independent of popularity.

    Raises
    ------
    ConfigError
        A number is out of range.

    Notes
    -----
    The executors make the events in chunks of 1,000 users whenever the frame is computed, so
    persist or write it to use it twice. Each chunk has its own counter-based generator (Philox,
    Salmon et al. 2011). A task holds one chunk in memory, 100,000 events by default.
    """
    if events < 1:
        raise ConfigError("events must be at least 1")
    names = columns or Columns()
    walker = _Walker(events, seed, shape or Shape())
    chunks = -(-walker.walks // _CHUNK_WALKS)
    tasks = min(chunks, max(slots(spark), chunks // _TASK_CHUNKS))
    found = spark.range(0, chunks, 1, tasks).mapInArrow(
        walker.run, "user long, item long, timestamp long, position long"
    )
    ids = {name: F.col(name) for name in ("user", "item")}
    if walker.shape.text_ids:
        ids = {
            name: F.concat(F.lit(f"{name}-"), column.cast("string")) for name, column in ids.items()
        }
    return found.select(
        ids["user"].alias(names.user),
        ids["item"].alias(names.item),
        F.col("timestamp").alias(names.timestamp),
        F.col("position").alias(names.position),
    )


@dataclass(frozen=True)
class _Walker:
    """Users are walks over the items; the heavy user is a series of walks."""

    events: int
    seed: int
    shape: Shape

    @property
    def users(self) -> int:
        return max(1, self.events // self.shape.events_per_user)

    @property
    def walks(self) -> int:
        return self.users - (-self.shape.heavy_user_events // self.shape.events_per_user)

    def run(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the events of the chunks with the given numbers."""
        for batch in batches:
            for chunk in batch.column("id").to_pylist():
                yield self.chunk(chunk)

    def chunk(self, number: int) -> pa.RecordBatch:
        """The events of one chunk of walks."""
        random = self._random(number)
        first = number * _CHUNK_WALKS
        walks = np.arange(first, min(first + _CHUNK_WALKS, self.walks))
        lengths = self._lengths(walks, random)
        items = self._items(len(walks), int(lengths.max()), random)
        starts = _START + random.integers(0, _YEAR, len(walks))
        pauses = random.integers(0, _LONGEST_PAUSE, items.shape)
        pauses[:, 0] = 0
        # The heavy user's walks follow each other; none is longer than the mean.
        turn = np.maximum(walks - self.users, 0)
        heavy = walks >= self.users
        starts[heavy] = _START + turn[heavy] * self.shape.events_per_user * _LONGEST_PAUSE
        times = starts[:, None] + np.cumsum(pauses, axis=1)
        begin = first * self.shape.events_per_user + np.cumsum(lengths) - lengths
        begin[heavy] = self.events + turn[heavy] * self.shape.events_per_user
        steps = np.arange(items.shape[1])
        kept = steps < lengths[:, None]
        return pa.RecordBatch.from_arrays(
            [
                pa.array(np.repeat(np.minimum(walks, self.users), lengths)),
                pa.array(self._tables[2][items[kept]]),
                pa.array(times[kept]),
                pa.array((begin[:, None] + steps)[kept]),
            ],
            ["user", "item", "timestamp", "position"],
        )

    def _lengths(self, walks: Ints, random: np.random.Generator) -> Ints:
        """Number of events of each walk; two consecutive walks have twice the mean together."""
        mean = self.shape.events_per_user
        more = random.integers(0, mean - mean // 10, len(walks) // 2 + 1).repeat(2)[: len(walks)]
        lengths = mean + np.where(walks % 2 == 0, more, -more)
        if self.users % 2:
            lengths[walks == self.users - 1] = mean
        lengths[walks == self.users - 1] += self.events - self.users * mean
        lengths[walks >= self.users] = mean
        lengths[walks == self.walks - 1] -= self._missing
        return lengths

    @property
    def _missing(self) -> int:
        """Number of events by which the heavy user's last walk is shorter than the mean."""
        return -self.shape.heavy_user_events % self.shape.events_per_user

    def _items(self, walks: int, steps: int, random: np.random.Generator) -> Ints:
        """[walks, steps]: ranks of items, from 0."""
        shares, successors, _ = self._tables
        items = np.searchsorted(shares, random.random((walks, steps)), side="right")
        if self.shape.common_item:
            items[:, 0] = 0
        follows = random.random((walks, steps)) < self.shape.follow
        which = random.integers(0, self.shape.successors, (walks, steps))
        for step in range(1, steps):
            after = successors[items[:, step - 1], which[:, step]]
            items[:, step] = np.where(follows[:, step], after, items[:, step])
        return items

    @cached_property
    def _tables(self) -> tuple[npt.NDArray[np.float64], Ints, Ints]:
        """By rank of item: cumulative shares, successors (ranks), and ids from 1."""
        random = self._random(_ITEMS_STREAM)
        shares = np.cumsum(1.0 / np.arange(1, self.shape.items + 1))
        shares /= shares[-1]
        # By Zipf's law, the logarithm of the rank is uniform. A symmetric step on that scale, with
        # reflection at the ends, keeps it uniform.
        ranks = 1.0 + np.arange(self.shape.items)[:, None]
        inside, step = random.random((2, self.shape.items, self.shape.successors))
        end = np.log(self.shape.items + 1.0)
        place = np.mod(np.log(ranks + inside) + np.log(8.0) * (2.0 * step - 1.0), 2.0 * end)
        successors = np.exp(end - np.abs(end - place)).astype(np.int64) - 1
        ids = random.permutation(self.shape.items) + 1
        return shares, np.minimum(successors, self.shape.items - 1), ids

    def _random(self, stream: int) -> np.random.Generator:
        key = np.array([self.seed % 2**64, stream], np.uint64)
        return np.random.Generator(np.random.Philox(key=key))

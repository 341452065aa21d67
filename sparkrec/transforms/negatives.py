"""Negative sampling before training: items that a user does not have, drawn by popularity.

Each draw comes from a counter-based generator (splitmix64) keyed by (seed, position, slot). It
inverts the distribution over the items that the user does not have, so it is exact: there is no
rejection, and the result does not depend on the partitions and the order of rows. Weights are
integers, so rounding cannot select an item that the user has.

How a draw finds its item: items are intervals on a line, each as long as its weight. For a user,
the intervals of the user's items in `train_events` are removed and the rest is closed up; the draw
is a point on the shortened line. A first binary search, among the user's items, gives the length
that was removed before the point. Adding it gives the position on the full line, and a second
binary search finds the item.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StructField, StructType

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError, DataError
from sparkrec.spark_versions import from_arrow, to_arrow
from sparkrec.splitmix64 import GOLDEN, mixed
from sparkrec.transforms._common import require_at_least, require_columns, require_events

NEGATIVES = "negatives"
_SEEN = "_sr_seen"
_INDEX = "_sr_index"

# The sum of all weights is about 2^48. The part of a search key within a user is below 2^49, which
# leaves 14 bits for the number of the user within a chunk: at most 8192 rows, including markers.
_WEIGHT_BITS = 48
_KEY_BITS = 49
_MAX_CHUNK_ROWS = 8192
# Draws per chunk: small enough for the processor's cache and for any executor's memory.
_CHUNK_DRAWS = 1 << 18

Ints = npt.NDArray[np.int64]


def sample_negatives(
    positives: DataFrame,
    train_events: DataFrame,
    columns: Columns,
    num_negatives: int,
    alpha: float = 0.75,
    seed: int = 0,
) -> DataFrame:
    """Add to each positive sampled items that its user does not have in `train_events`.

    Items are drawn with replacement from the items that the user does not have, with probability in
    proportion to count^alpha, where count is the number of train events of the item (Mikolov et al.
    2013 use alpha = 0.75; 0 is uniform).

    Parameters
    ----------
    positives
        One row per positive; `columns.position` (an integer, never null) is its key for the draws.
    train_events
        Events that define the candidates, their popularity, and the items of each user. An item
        that is in `positives` only is neither drawn nor excluded.
    num_negatives
        Number of negatives per positive, at least 1.
    alpha
        Exponent of the popularity, at least 0.
    seed
        Any integer.

    Returns
    -------
    DataFrame
        All rows and columns of `positives`, and `negatives`: array<item type> of `num_negatives`
        items; empty for a user who has every item (`negatives_shortfall` counts those). The rows of
        a partition are ordered by user: shuffle them before training in file order.

    Raises
    ------
    DataError
        A column is missing, `train_events` is empty, or the two frames' user columns differ in
        type.
    ConfigError
        `num_negatives` below 1, or `alpha` negative or not finite.

    Notes
    -----
    Equal arguments give equal negatives, whatever the partitions and the order of the rows. One
    Spark job runs at once to count the items, which the driver holds (a few million at most). The
    rest is lazy: one shuffle by user, then Arrow batches. A task holds one batch and the distinct
    items of one user in memory. The speed is about 5 million negatives per second and core.
    """
    require_columns(
        positives, (columns.user, columns.timestamp, columns.position), table="positives"
    )
    require_events(train_events, columns, table="train_events")
    types = [frame.schema[columns.user].dataType for frame in (positives, train_events)]
    if types[0] != types[1]:
        raise DataError(
            f"{columns.user} is {types[0].simpleString()} in positives but "
            f"{types[1].simpleString()} in train_events; cast one of them"
        )
    require_at_least("num_negatives", num_negatives, 1)
    if not 0 <= alpha < float("inf"):
        raise ConfigError(f"alpha must be a number of at least 0, not {alpha}")

    counts = _item_counts(train_events, columns)
    sampler = _Sampler.build(counts, columns.position, num_negatives, alpha, seed)
    index = from_arrow(
        train_events.sparkSession,
        pa.table({columns.item: counts["item"], _INDEX: np.arange(len(counts), dtype=np.int32)}),
    )
    rows = positives.drop(NEGATIVES)
    # One marker row per user has the user's items. It is sorted before the user's positives and
    # serves them all, whatever the number of batches, so that no positive needs its own array.
    users = rows.select(columns.user).distinct()
    seen = train_events.select(columns.user, columns.item).join(index, columns.item)
    markers = (
        seen.select(columns.user, _INDEX)
        .unionByName(users.withColumn(_INDEX, F.lit(None).cast("int")))
        .groupBy(columns.user)
        .agg(F.sort_array(F.collect_set(_INDEX)).alias(_SEEN))
    )
    stream = (
        rows.withColumn(_SEEN, F.lit(None).cast("array<int>"))
        .unionByName(markers, allowMissingColumns=True)
        .repartition(columns.user)
        .sortWithinPartitions(
            columns.user, F.col(_SEEN).isNull(), columns.timestamp, columns.position
        )
    )
    item_type = train_events.schema[columns.item].dataType
    negatives = StructField(NEGATIVES, ArrayType(item_type, False), False)
    schema = StructType([*rows.schema.fields, negatives])
    return stream.mapInArrow(_worker(sampler), schema)


def negatives_shortfall(frame: DataFrame, num_negatives: int) -> int:
    """Number of negatives that are missing, compared with `num_negatives` in each row.

    Runs a Spark job. It is zero unless a user has every item.

    Raises
    ------
    DataError
        The frame has no column `negatives`.
    """
    require_columns(frame, [NEGATIVES], "sampled positives")
    missing = F.sum(F.lit(num_negatives) - F.coalesce(F.size(NEGATIVES), F.lit(0)))
    row = frame.agg(missing).head()
    return int(row[0] or 0) if row is not None else 0


def _item_counts(train_events: DataFrame, columns: Columns) -> pa.Table:
    """The items of train in ascending order, `item` and `n`; the row number is the dense index."""
    counted = (
        train_events.where(F.col(columns.item).isNotNull())
        .groupBy(F.col(columns.item).alias("item"))
        .agg(F.count("*").alias("n"))
    )
    counts = to_arrow(counted).sort_by("item")
    if len(counts) == 0:
        raise DataError("train_events: no events, so there are no items to sample from")
    return counts.combine_chunks()


def _worker(
    sampler: "_Sampler",
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        open_user = np.empty(0, np.int64)
        for batch in batches:
            for start in range(0, len(batch), sampler.chunk_rows):
                chunk = batch.slice(start, sampler.chunk_rows)
                out, open_user = sampler.sample(chunk, open_user)
                if len(out):
                    yield out

    return run


@dataclass(frozen=True)
class _Sampler:
    """Data and settings that a task needs to draw; a few bytes per item."""

    items: pa.Array
    weights: Ints
    position: str
    num_negatives: int
    seed: int

    @classmethod
    def build(
        cls, counts: pa.Table, position: str, num_negatives: int, alpha: float, seed: int
    ) -> "_Sampler":
        shares = counts["n"].to_numpy().astype(np.float64)
        shares = (shares / shares.max()) ** alpha
        weights = np.maximum(np.rint(shares / shares.sum() * 2.0**_WEIGHT_BITS), 1).astype(np.int64)
        return cls(counts["item"].combine_chunks(), weights, position, num_negatives, seed)

    @property
    def chunk_rows(self) -> int:
        return min(max(_CHUNK_DRAWS // self.num_negatives, 1), _MAX_CHUNK_ROWS)

    def sample(self, chunk: pa.RecordBatch, open_user: Ints) -> tuple[pa.RecordBatch, Ints]:
        """Draw negatives for the positives of a chunk.

        The chunk may begin in the middle of a user's positives; `open_user` has the items of that
        user (sorted indices). Returns the rows, and the items of the chunk's last user.
        """
        seen = chunk.column(_SEEN)
        is_marker = seen.is_valid().to_numpy(zero_copy_only=False)
        lengths = pc.list_value_length(seen.filter(pa.array(is_marker))).to_numpy()
        lengths = np.concatenate([[len(open_user)], lengths]).astype(np.int64)
        items = np.concatenate([open_user, seen.flatten().to_numpy()]).astype(np.int64)

        rows = chunk.filter(pa.array(~is_marker)).drop_columns([_SEEN])
        owner = np.cumsum(is_marker)[~is_marker]
        noise = _noise(rows.column(self.position), self.num_negatives, self.seed)
        chosen, free = self._draw(noise, owner, items, lengths)

        full = free[owner] > 0
        offsets = np.concatenate([[0], np.cumsum(full * self.num_negatives)]).astype(np.int32)
        negatives = pa.ListArray.from_arrays(
            offsets, self.items.take(pa.array(chosen[full].ravel()))
        )
        return rows.append_column(NEGATIVES, negatives), items[len(items) - lengths[-1] :]

    def _draw(
        self, noise: npt.NDArray[np.float64], owner: Ints, items: Ints, lengths: Ints
    ) -> tuple[Ints, Ints]:
        """Dense indices of the shape of `noise` (rows x slots), and the remaining weight by user.

        `items` are the concatenated items of the users, `lengths` the number of items of each
        user, and `owner` the user of each row. The rows of a user without remaining weight are
        meaningless.
        """
        ends = np.cumsum(self.weights)
        first = np.cumsum(lengths) - lengths
        own = self.weights[items]
        cut = np.concatenate([[0], np.cumsum(own)])
        free = ends[-1] - (cut[first + lengths] - cut[first])

        users = np.arange(len(lengths), dtype=np.int64)
        of_item = np.repeat(users, lengths)
        # Position of each removed interval on the user's shortened line; ascending, as the items.
        at = ends[items] - own - (cut[:-1] - cut[first][of_item])
        keys = (of_item << _KEY_BITS) + at

        point = (noise * free[owner][:, None]).astype(np.int64)
        passed = np.searchsorted(keys, point + (owner << _KEY_BITS)[:, None], side="right")
        place = point + cut[passed] - cut[first[owner]][:, None]
        return np.minimum(np.searchsorted(ends, place, side="right"), len(ends) - 1), free


def _noise(positions: pa.Array, num_slots: int, seed: int) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1), rows x slots, each a function of (seed, position, slot)."""
    keys = positions.cast(pa.int64()).to_numpy().astype(np.uint64)
    start = mixed(keys ^ mixed(np.array([seed % 2**64], np.uint64)))
    steps = np.arange(num_slots, dtype=np.uint64) * np.uint64(GOLDEN)
    bits = mixed(start[:, None] + steps[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * np.float64(2.0**-53)

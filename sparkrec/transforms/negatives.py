"""Negative sampling ahead of training: items a user does not have, drawn by popularity.

Each draw comes from a counter-based generator (splitmix64) keyed by (seed, position, slot), and is
exact: it inverts the distribution over the items that the user lacks, so there is no rejection and
no chance that depends on how rows are partitioned or ordered. Weights are whole numbers, hence no
rounding can hit an item that the user has.

How a draw finds its item. The items lie side by side on a line, each as long as its weight. For a
user, the items in `train_events` are cut out and the rest is pushed together; the draw is a point
on what remains. A first binary search, among the user's own items, tells how much was cut out
before the point; adding that gives the place on the full line, and a second search finds the item.
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
from sparkrec.splitmix64 import GOLDEN, mixed
from sparkrec.transforms._common import require_at_least, require_columns, require_events

NEGATIVES = "negatives"
_SEEN = "_sr_seen"
_INDEX = "_sr_index"

# All weights together are about 2^48. A user's own part of a search key stays below 2^49, which
# leaves 14 bits for the user's number within a chunk: at most 8192 rows, markers included.
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
    """Add to each positive items that its user has nowhere in `train_events`.

    Items are drawn with replacement, with probability proportional to count^alpha among the items
    that the user lacks, where count is the item's number of train events (Mikolov et al. 2013 use
    alpha = 0.75; 0 is uniform).

    Parameters
    ----------
    positives
        One row a positive; `columns.position` (an integer, never null) is its key for the draws.
    train_events
        Events that give the popularity, the candidates, and what each user has. An item that is in
        `positives` only is neither drawn nor excluded.
    num_negatives
        Negatives per positive, at least 1.
    alpha
        Exponent of the popularity, at least 0.
    seed
        Any integer.

    Returns
    -------
    DataFrame
        All rows and columns of `positives`, and `negatives`: array<item type> of `num_negatives`
        items; empty for a user who has every item (`negatives_shortfall` counts those). Rows come
        out ordered by user within a partition: shuffle them before training in file order.

    Raises
    ------
    DataError
        A column is missing, `train_events` is empty, or the two frames' user columns differ in
        type.
    ConfigError
        `num_negatives` below 1, or `alpha` negative or not finite.

    Notes
    -----
    Equal arguments give equal negatives, whatever the partitions and the order of the rows. Runs
    one Spark job at once to count the items, which the driver holds (up to some millions); the
    rest is lazy: one shuffle by user, then Arrow batches. Memory per task is one batch and one
    user's distinct items. About 5 million negatives a second and core.
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
    index = train_events.sparkSession.createDataFrame(
        pa.table({columns.item: counts["item"], _INDEX: np.arange(len(counts), dtype=np.int32)})
    )
    rows = positives.drop(NEGATIVES)
    # One marker row a user carries the user's items; sorted before the user's positives, it serves
    # them all, however many batches they fill, and no positive has to carry an array of its own.
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
    """How many negatives are missing in all rows, compared with `num_negatives` in each.

    Runs a Spark job. Zero unless some user has every item.

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
    """The items of train in ascending order, `item` and `n`; an item's row is its dense index."""
    counts = (
        train_events.where(F.col(columns.item).isNotNull())
        .groupBy(F.col(columns.item).alias("item"))
        .agg(F.count("*").alias("n"))
        .toArrow()
        .sort_by("item")
    )
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
    """Everything a task needs to draw; a few bytes per item."""

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
        """Negatives for the chunk's positives.

        `open_user` has the items (sorted indices) of the user whose positives the chunk may begin
        with; returned with the rows are those of the user it ends with.
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
        """Dense indices shaped like `noise` (rows x slots), and what weight each user leaves free.

        `items` are the users' items one user after another, `lengths` how many each has, `owner`
        the user of each row. Rows of a user who leaves nothing free hold no meaning.
        """
        ends = np.cumsum(self.weights)
        first = np.cumsum(lengths) - lengths
        own = self.weights[items]
        cut = np.concatenate([[0], np.cumsum(own)])
        free = ends[-1] - (cut[first + lengths] - cut[first])

        users = np.arange(len(lengths), dtype=np.int64)
        of_item = np.repeat(users, lengths)
        # Where on the user's shortened line each cut lies; ascending, as the items are.
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

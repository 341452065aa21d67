"""Swing: two items are similar if many pairs of users had both but share few other items.

Yang et al., "Large Scale Product Graph Construction for Recommendation in E-commerce" (arXiv
2010.05525). With I_u the items of user u and U_i the users of item i,

    sim(i, j) = sum over pairs u < v of users in both U_i and U_j of

                    w_u w_v / (alpha + |I_u and I_v|)          w_u = (|I_u| + smoothing)^-exponent

Two users who share i and j and hardly any other item tell more about these items than two users
who share everything. An item that a user had several times counts once. The order of events is
ignored.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.sql import DataFrame

from sparkrec.baselines.item_to_item._blocks import collect_neighbours, count_blocks, solve, spread
from sparkrec.baselines.item_to_item._swing_kernel import UserPairs
from sparkrec.baselines.item_to_item.model import ItemToItemConfig, ItemToItemModel
from sparkrec.bounds import Bounds, Power
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.io.tables import KEY_TYPES, require_columns
from sparkrec.retrieval.base import Retriever

# Memory per item of a row: rows as received, joined, sorted, and transposed.
_ROW_BYTES = 20


@dataclass(frozen=True, kw_only=True)
class SwingConfig(ItemToItemConfig):
    """How similarities are computed. The formula is in the docstring of the module.

    The default user weight is the paper's, 1/sqrt|I_u|. The default of `alpha` is that of
    MetaSpore's Swing (`smoothing_coefficient`) and of Alibaba's PAI, and the defaults of
    `max_users_per_item` and `max_items_per_user` are PAI's.

    Attributes
    ----------
    alpha
        Added to the number of items that two users share. The larger it is, the less the number of
        shared items matters.
    smoothing, exponent
        The weight of a user with n items is (n + smoothing)^-exponent.
    max_users_per_item
        Maximum number of users that are compared for an item. A larger number is sampled, with the
        seed. The cost grows with the square of this.
    max_items_per_user
        Maximum number of items of a user that are used. A larger number is sampled, with the seed.
    task_memory_mb
        Memory in MB for the rows of a task, see `Swing`.
    """

    alpha: Annotated[float, Bounds(0, 1_000_000_000)] = 1.0
    smoothing: Annotated[float, Bounds(0, 1_000_000_000)] = 0.0
    exponent: Power = 0.5
    max_users_per_item: Annotated[int, Bounds(2, 2**31 - 1)] = 1000
    max_items_per_user: Annotated[int, Bounds(2, 2**31 - 1)] = 1000
    task_memory_mb: Annotated[int, Bounds(1, 2**20)] = 512


class SwingModel(ItemToItemModel):
    """The neighbours of every item by Swing similarity."""

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": SwingConfig}


class Swing(Retriever):
    """Computes Swing similarities from pairs of users.

    Parameters
    ----------
    config
        The `model:` block of a conf; by default the defaults of `SwingConfig`.
    params
        Params by name: those of every retriever, `seed`, and the fields of `SwingConfig`.

    Notes
    -----
    `max_items_per_user` limits the items of a user. For the items that are left, the similarity is
    exact for every pair of items of which at least one has no more than `max_users_per_item`
    users. If both have more, the users of the item with fewer events are sampled, and the sum is
    scaled up to all pairs of its users, which gives an unbiased estimate. The same events and seed
    give the same scores to the last bit, whatever the order and the partitions of the events and
    the number of tasks.

    The cost is one addition for every combination of a pair of items and a pair of users that had
    both: 16 billion on MovieLens-1M. With the limits it grows with events * `max_users_per_item` *
    the number of items that two users share.

    The Python worker of a block's task holds rows at 20 bytes per item. Half of `task_memory_mb`
    is for the rows that are read at a time, the other half for the rows that belong to a sample.
    For these to fit, there are

        blocks = 20 * max_items_per_user * sum over items of min(events of the item,
                 max_users_per_item) / (task_memory_mb / 2)

    blocks, or two blocks per core if all rows fit at once. A worker needs in addition 64 MB for
    sums, and 12 bytes for each item and neighbour. The driver collects as many bytes.
    """

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": SwingConfig}
    model_class = SwingModel

    seed = Param(Params._dummy(), "seed", "seed of the samples", TypeConverters.toInt)

    def _fit(self, dataset: DataFrame) -> SwingModel:
        columns = self.columns
        require_columns(dataset, {columns.user: KEY_TYPES, columns.item: KEY_TYPES}, "train")
        catalogue = count_catalogue(dataset, columns.item)
        config, seed, popular = self.config, self.get("seed"), catalogue.popular
        rank = np.empty(len(popular), np.int32)
        rank[popular] = np.arange(len(popular), dtype=np.int32)
        kernel = UserPairs(
            alpha=config.alpha,
            smoothing=config.smoothing,
            exponent=config.exponent,
            max_users_per_item=config.max_users_per_item,
            num_neighbours=config.num_neighbours,
            seed=seed,
            rank=rank,
            chunk_items=_half(config) // _ROW_BYTES,
        )
        blocks = count_blocks(dataset.sparkSession, _least_blocks(config, catalogue))
        most = config.max_items_per_user
        messages = spread(dataset, catalogue, columns, blocks, most, "sampled", seed)
        lists = solve(messages, catalogue, blocks, kernel)
        solved = _join_lists(lists, blocks, config.num_neighbours)
        ranked, ranked_scores = collect_neighbours(solved, len(rank), config.num_neighbours)
        neighbours = np.where(ranked >= 0, popular[ranked], -1).astype(np.int32)
        return self._copyValues(SwingModel(catalogue, neighbours[rank], ranked_scores[rank]))


def _half(config: SwingConfig) -> int:
    """Bytes for the rows that a task reads at a time, and also for the rows of its samples."""
    return config.task_memory_mb * 2**20 // 2


def _least_blocks(config: SwingConfig, catalogue: Catalogue) -> float:
    """Least number of blocks so that the sampled rows of a block fit; 0 if all rows fit at once."""
    if catalogue.counts.sum() * _ROW_BYTES <= _half(config):
        return 0
    users = np.minimum(catalogue.counts, config.max_users_per_item).sum()
    blocks = float(users) * config.max_items_per_user * _ROW_BYTES / _half(config)
    return min(blocks, len(catalogue))


def _join_lists(lists: DataFrame, parts: int, width: int) -> DataFrame:
    """Merge the lists of each item, at most one per block, into its best `width` neighbours."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        table = pa.Table.from_batches(batches, lists_schema)
        lengths = pa.compute.list_value_length(table.column(1)).to_numpy()
        item = np.repeat(table.column(0).to_numpy(), lengths)
        neighbour, score = (
            pa.compute.list_flatten(table.column(place)).to_numpy() for place in (1, 2)
        )
        best = np.lexsort((neighbour, -score, item))
        place = np.arange(len(item)) - np.searchsorted(item[best], item[best])
        best = best[place < width]
        items, counts = np.unique(item[best], return_counts=True)
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(items),
                pa.ListArray.from_arrays(offsets, pa.array(neighbour[best])),
                pa.ListArray.from_arrays(offsets, pa.array(score[best])),
            ],
            lists_schema.names,
        )

    lists_schema = pa.schema(
        {"item": pa.int32(), "neighbours": pa.list_(pa.int32()), "scores": pa.list_(pa.float64())}
    )
    return lists.repartition(parts, "item").mapInArrow(run, lists.schema)

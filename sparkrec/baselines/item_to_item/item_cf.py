"""ItemCF: items that the same users had are neighbours.

With I_u the items of user u, U_i the users of item i, w_u the weight of a user, and the sum over
users that had both

    C(i, j) = sum of w_u * g(distance in I_u)     d(i) = sum of w_u over U_i     D = sum of all w_u

`similarity` is one of

    cosine       C(i, j) / sqrt(d(i) d(j))             Sarwar et al., WWW 2001; with w_u = 1/|I_u|
                                                       it is MetaSpore's, a cosine of rows that
                                                       each user divides by sqrt|I_u|
    conditional  C(i, j) / d(i), that is P(j | i)      Deshpande and Karypis, TOIS 2004
    jaccard      C(i, j) / (d(i) + d(j) - C(i, j))     Jaccard, 1901
    lift         C(i, j) D / (d(i) d(j))               Brin et al., SIGMOD 1997

then, with n(i, j) the number of users that count for the pair and n(j) = |U_j|,

    shrinkage           times n(i, j) / (n(i, j) + shrinkage)         Bell and Koren, ICDM 2007
    popularity_damping  times n(j)^-damping       the alpha of Deshpande and Karypis' P(j | i)

The distance of two items is that of their places in I_u, which stands in the order of (timestamp,
position), an item that was had more than once at its last time: g = distance_decay^distance, 0
beyond `max_distance`, and with `directed` 0 also where j stands before i. d, D and n(j) count all
users nonetheless.
"""

from typing import Any, ClassVar

from pyspark.sql import DataFrame

from sparkrec.baselines.item_to_item._blocks import collect_neighbours, count_blocks, solve, spread
from sparkrec.baselines.item_to_item._item_cf_kernel import CoOccurrence, ItemCFConfig
from sparkrec.baselines.item_to_item.model import ItemToItemModel
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.retrieval.base import Retriever
from sparkrec.transforms._common import require_columns

# Rows as they come, and joined.
_ROW_BYTES = 8


class ItemCFModel(ItemToItemModel):
    """The neighbours that ItemCF counted."""

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": ItemCFConfig}


class ItemCF(Retriever):
    """Counts which items go together; params are those of `ItemCFConfig`.

    Notes
    -----
    Exact for the rows that `max_items_per_user` leaves. Cost grows with the sum of |I_u|^2 (with
    events x `max_distance` where that is set). The Python worker of a block's task holds rows, at
    8 bytes an item of the users that touch the block, and 12 bytes for each entry of the block's
    own items. Where all events fit into half of `task_memory_mb` that is all, and there are two
    blocks a core. Else rows come in chunks of that half, and the other half holds 8 bytes (16 with
    `shrinkage` or `min_cooccurrence`) for each pair of a block's item and any item: there are

        blocks = 8 (16) * items^2 / (task_memory_mb / 2)

    of them. The 12 bytes an item and neighbour of the result are collected on the driver.
    """

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": ItemCFConfig}
    model_class = ItemCFModel

    def _fit(self, dataset: DataFrame) -> ItemCFModel:
        columns = self.columns
        require_columns(dataset, [columns.user, columns.item], "train")
        catalogue = count_catalogue(dataset, columns.item)
        config = self.config
        events = int(catalogue.counts.sum())
        kernel = CoOccurrence(config, len(catalogue), _half(config) // _ROW_BYTES)
        blocks = count_blocks(dataset.sparkSession, _least_blocks(config, len(catalogue), events))
        messages = spread(
            dataset,
            catalogue,
            columns,
            blocks,
            config.max_items_per_user or None,
            "recent" if config.ordered else "sampled",
            measure=kernel.measure,
        )
        solved = solve(messages, catalogue, blocks, kernel)
        found = collect_neighbours(solved, len(catalogue), config.num_neighbours)
        return self._copyValues(ItemCFModel(catalogue, *found))


def _half(config: ItemCFConfig) -> int:
    """Bytes for the rows of a task, or for its sums."""
    return config.task_memory_mb * 2**20 // 2


def _least_blocks(config: ItemCFConfig, items: int, events: int) -> float:
    """Blocks by which the sums of one fit into its memory; 0 where there need not be any sums."""
    if events * _ROW_BYTES <= _half(config):
        return 0
    return (16 if config.counting else 8) * items**2 / _half(config)

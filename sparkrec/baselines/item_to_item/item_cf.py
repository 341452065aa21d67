"""ItemCF: two items are similar if the same users had both.

Let I_u be the items of user u, U_i the users of item i, and w_u the weight of a user. With the sum
of C over the users that had both items,

    C(i, j) = sum of w_u * g(distance in I_u)     d(i) = sum of w_u over U_i     D = sum of all w_u

`similarity` is one of

    cosine       C(i, j) / sqrt(d(i) d(j))             Sarwar et al., WWW 2001; w_u = 1/|I_u| gives
                                                       MetaSpore's formula, the cosine of item
                                                       vectors whose entry for u is 1/sqrt|I_u|
    conditional  C(i, j) / d(i), that is P(j | i)      Deshpande and Karypis, TOIS 2004
    jaccard      C(i, j) / (d(i) + d(j) - C(i, j))     Jaccard, 1901
    lift         C(i, j) D / (d(i) d(j))               Brin et al., SIGMOD 1997

and the result is multiplied, with n(i, j) the number of users that count for the pair and
n(j) = |U_j|, by


    shrinkage           n(i, j) / (n(i, j) + shrinkage)         Bell and Koren, ICDM 2007
    popularity_damping  n(j)^-popularity_damping       the alpha of Deshpande and Karypis' P(j | i)

With `weight_col`, r_ui is the sum of the weights of the events of u with i; it is 1 without. Then
C(i, j) = sum of w_u * r_ui * r_uj * g, and d(i) = sum of w_u * r_ui^2, which is the cosine (or
Tanimoto's coefficient, the jaccard of vectors) of item vectors whose entry for u is sqrt(w_u) r_ui.

I_u is ordered by (timestamp, position); an item with several events has the place of the last one.
The distance of two items is the difference of their places in I_u. g = distance_decay^distance; it
is 0 beyond `max_distance`, and with `directed` also if j comes before i. d, D and n(j) count all
users in any case.
"""

from typing import Any, ClassVar

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.baselines.item_to_item._blocks import collect_neighbours, count_blocks, solve, spread
from sparkrec.baselines.item_to_item._item_cf_kernel import CoOccurrence, ItemCFConfig
from sparkrec.baselines.item_to_item.model import ItemToItemModel
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.retrieval.base import Retriever
from sparkrec.transforms._common import require_columns
from sparkrec.transforms.weights import check_weights

# Memory per item of a row, and per weight of an item: rows as received, and joined.
_ROW_BYTES, _WEIGHT_BYTES = 8, 16


class ItemCFModel(ItemToItemModel):
    """The neighbours of every item by co-occurrence."""

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": ItemCFConfig}


class ItemCF(Retriever):
    """Counts which items occur together. Its params are the fields of `ItemCFConfig`.

    Notes
    -----
    The result is exact, apart from the limit `max_items_per_user`. The cost grows with the sum of
    |I_u|^2, or with events * `max_distance` if that is set.

    The Python worker of a block's task holds the rows of all users who have an item of the block,
    at 8 bytes per item (24 with `weight_col`), and 12 bytes more for each entry that is an item of
    the block. If all events fit into half of `task_memory_mb`, it needs nothing else, and there are
    two blocks per core. Otherwise rows are read in chunks of that half, and the other half holds 8
    bytes (16 with `shrinkage` or `min_cooccurrence`) for each pair of an item of the block and any
    item. For these to fit, there are

        blocks = 8 (16) * items^2 / (task_memory_mb / 2)

    blocks. The driver collects the result, 12 bytes for each item and neighbour.
    """

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": ItemCFConfig}
    model_class = ItemCFModel

    def _fit(self, dataset: DataFrame) -> ItemCFModel:
        columns = self.columns
        require_columns(dataset, [columns.user, columns.item], "train")
        catalogue = count_catalogue(dataset, columns.item)
        config = self.config
        if config.weight_col is not None:
            check_weights(dataset, config.weight_col)
            dataset = dataset.where(F.col(f"`{config.weight_col}`") > 0)
        events = int(catalogue.counts.sum())
        kernel = CoOccurrence(config, len(catalogue), _half(config) // _row_bytes(config))
        blocks = count_blocks(dataset.sparkSession, _least_blocks(config, len(catalogue), events))
        messages = spread(
            dataset,
            catalogue,
            columns,
            blocks,
            config.max_items_per_user or None,
            "recent" if config.ordered else "sampled",
            measure=kernel.measure,
            weight=config.weight_col,
        )
        solved = solve(messages, catalogue, blocks, kernel)
        found = collect_neighbours(solved, len(catalogue), config.num_neighbours)
        return self._copyValues(ItemCFModel(catalogue, *found))


def _row_bytes(config: ItemCFConfig) -> int:
    return _ROW_BYTES + (0 if config.weight_col is None else _WEIGHT_BYTES)


def _half(config: ItemCFConfig) -> int:
    """Bytes for the rows of a task, and also for its sums."""
    return config.task_memory_mb * 2**20 // 2


def _least_blocks(config: ItemCFConfig, items: int, events: int) -> float:
    """Least number of blocks so that the sums of a block fit; 0 if no sums must be held."""
    if events * _row_bytes(config) <= _half(config):
        return 0
    return (16 if config.counting else 8) * items**2 / _half(config)

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

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pyspark.sql import DataFrame

from sparkrec.baselines.item_to_item._blocks import collect_neighbours, count_blocks, solve, spread
from sparkrec.baselines.item_to_item._item_cf_kernel import CoOccurrence
from sparkrec.baselines.item_to_item.model import ItemToItemConfig, ItemToItemModel
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.retrieval.base import Retriever
from sparkrec.transforms._common import require_columns

# Rows as they come, and joined.
_ROW_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class ItemCFConfig(ItemToItemConfig):
    """How neighbours are counted; formulas stand at the top of the module.

    Attributes
    ----------
    similarity
        `cosine`, `conditional`, `jaccard` or `lift`.
    user_weight
        Users weigh w_u = 1/|I_u|, else 1. By default cosine has the weight, as MetaSpore's, and
        the others have not, as their sources.
    shrinkage
        Users by which rare pairs are pulled to 0.
    popularity_damping
        Exponent by which popular neighbours are held down.
    directed
        An item counts for what comes after it.
    max_distance
        Pairs up to so many places apart in a user's row; 0 for any.
    distance_decay
        A pair weighs decay^distance.
    max_items_per_user
        The most recent items of a user that count; 0 for all. Work grows with events x this.
    min_cooccurrence
        Users that a pair must have.
    task_memory_mb
        Memory for the sums and rows of a block's task, see `ItemCF`.
    """

    similarity: Literal["cosine", "conditional", "jaccard", "lift"] = "cosine"
    user_weight: bool | None = None
    shrinkage: float = 0.0
    popularity_damping: float = 0.0
    directed: bool = False
    max_distance: int = 0
    distance_decay: float = 1.0
    max_items_per_user: int = 1000
    min_cooccurrence: int = 1
    task_memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.similarity not in ("cosine", "conditional", "jaccard", "lift"):
            raise ValueError("similarity must be cosine, conditional, jaccard or lift")
        for name in ("shrinkage", "popularity_damping", "max_distance", "max_items_per_user"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0")
        if not 0 < self.distance_decay <= 1:
            raise ValueError("distance_decay must be above 0 and at most 1")
        for name in ("min_cooccurrence", "task_memory_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")

    @property
    def weighted(self) -> bool:
        """Whether users weigh 1/|I_u|."""
        return self.similarity == "cosine" if self.user_weight is None else self.user_weight

    @property
    def counting(self) -> bool:
        """Whether the users of a pair must be counted beside their weight."""
        return self.shrinkage > 0 or self.min_cooccurrence > 1

    @property
    def ordered(self) -> bool:
        """Whether the order of a user's events matters."""
        pairs = self.directed or self.max_distance > 0 or self.distance_decay < 1
        return pairs or self.max_items_per_user > 0


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

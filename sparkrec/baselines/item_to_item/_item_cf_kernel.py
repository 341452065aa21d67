"""ItemCF on one item block: Gustavson's row-wise sparse matrix product, and the top neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from sparkrec.baselines.item_to_item._blocks import Block, Found, Scores
from sparkrec.baselines.item_to_item._user_rows import Ints, Numbers, UserRows
from sparkrec.baselines.item_to_item.model import ItemToItemConfig
from sparkrec.bounds import Bounds, Count, CountOrZero, Decay, Power
from sparkrec.compiled import compiled
from sparkrec.retrieval.search.heap import push, sort

_LEAST = 1e-300


@dataclass(frozen=True, kw_only=True)
class ItemCFConfig(ItemToItemConfig):
    """How similarities are computed. The formulas are in the docstring of the module `item_cf`.

    Attributes
    ----------
    similarity
        `cosine`, `conditional`, `jaccard` or `lift`.
    user_weight
        Whether a user u has the weight w_u = 1/|I_u|; if not, the weight is 1. By default `cosine`
        uses the weight, as in MetaSpore, and the others do not, as in their papers.
    shrinkage
        Shrinks the similarity of pairs with few common users: it is multiplied by
        n / (n + shrinkage), where n is the number of common users. 0 for none.
    popularity_damping
        Exponent of the popularity by which the similarity of a neighbour is divided. 0 for none.
    directed
        Whether only items that come after an item in a user's history count as its neighbours.
    max_distance
        Maximum distance of the two items of a pair in a user's history; 0 for no limit.
    distance_decay
        A pair at distance d has the weight distance_decay^d.
    max_items_per_user
        Number of the most recent items of a user that are used; 0 for all. The cost grows with the
        number of events times this.
    min_cooccurrence
        Minimum number of common users of a pair.
    task_memory_mb
        Memory in MB for the sums and rows of a task, see `ItemCF`.
    weight_col
        Column of the weight of an event, such as the `rating` that jobs/prepare.py writes for types
        of events; for `cosine` and `jaccard`. The weights of a user's events with an item are
        summed; events with the weight 0 are left out. By default an item of a user has weight 1.
    """

    similarity: Literal["cosine", "conditional", "jaccard", "lift"] = "cosine"
    user_weight: bool | None = None
    shrinkage: Annotated[float, Bounds(0, 1_000_000_000)] = 0.0
    popularity_damping: Power = 0.0
    directed: bool = False
    max_distance: CountOrZero = 0
    distance_decay: Decay = 1.0
    max_items_per_user: CountOrZero = 1000
    min_cooccurrence: Count = 1
    task_memory_mb: Annotated[int, Bounds(1, 2**20)] = 512
    weight_col: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_col is not None and self.similarity not in ("cosine", "jaccard"):
            raise ValueError("weight_col must be left out with similarity conditional and lift")
        if self.similarity not in ("cosine", "conditional", "jaccard", "lift"):
            raise ValueError("similarity must be cosine, conditional, jaccard or lift")

    @property
    def weighted(self) -> bool:
        """Whether users have the weight 1/|I_u|."""
        return self.similarity == "cosine" if self.user_weight is None else self.user_weight

    @property
    def counting(self) -> bool:
        """Whether the users of a pair must be counted in addition to their weights."""
        return self.shrinkage > 0 or self.min_cooccurrence > 1

    @property
    def ordered(self) -> bool:
        """Whether the order of a user's events matters."""
        pairs = self.directed or self.max_distance > 0 or self.distance_decay < 1
        return pairs or self.max_items_per_user > 0


@dataclass(frozen=True)
class CoOccurrence:
    """The kernel of ItemCF. It computes the sums of one item with all others at a time, in cache.

    The cost is a few nanoseconds for each pair of entries of a row.

    Attributes
    ----------
    num_items
        Number of items in the catalogue.
    chunk_items
        Number of items in a chunk of rows. If the rows of a block need more than one chunk, the
        sums of every item of the block with all items are held in memory until the last chunk.
    """

    config: ItemCFConfig
    num_items: int
    chunk_items: int

    def measure(self, rows: UserRows) -> Scores:
        """[1 + 2 * items]: total user weight; then for each item its users, and d(i)."""
        weights = self._user_weights(rows)
        of_entries = np.repeat(weights, rows.lengths)
        if len(rows.weights):
            of_entries = of_entries * rows.weights**2
        users = np.bincount(rows.items, minlength=self.num_items)
        weight = np.bincount(rows.items, of_entries, minlength=self.num_items)
        return np.concatenate([[weights.sum()], users, weight])

    def __call__(self, block: Block) -> Iterator[Found]:
        found = np.full((len(block.items), self.config.num_neighbours), -1, np.int32)
        scores = np.zeros(found.shape)
        place = np.full(self.num_items, -1, np.int64)
        place[block.items] = np.arange(len(block.items))
        sums: Scores | None = None
        counts: Scores | None = None
        factors = np.zeros((3, self.num_items))
        for rows, last in block.chunks(self.chunk_items):
            if sums is None or counts is None:
                kept = (1 if last else len(block.items), self.num_items)
                sums = np.zeros(kept)
                counts = np.zeros(kept if self.config.counting else (1, 1))
            if last:
                factors = self._factors(block.totals)
            _neighbours(
                rows.indptr,
                rows.items,
                *_entries(rows.indptr, rows.items, place, len(block.items)),
                self._user_weights(rows),
                rows.weights,
                self._distance_weights(rows),
                self.config.directed,
                self.config.counting,
                sums,
                counts,
                last,
                block.items,
                factors,
                self.config.similarity == "jaccard",
                self.config.shrinkage,
                self.config.min_cooccurrence,
                found,
                scores,
            )
        yield block.items, found, scores

    def _user_weights(self, rows: UserRows) -> Scores:
        if not self.config.weighted:
            return np.ones(len(rows))
        return 1.0 / np.maximum(rows.lengths, 1)

    def _distance_weights(self, rows: UserRows) -> Scores:
        """Weight of a pair by its distance, [longest distance + 1]; [0] if all weights are 1."""
        longest = int(rows.lengths.max(initial=1)) - 1
        if self.config.max_distance:
            longest = min(longest, self.config.max_distance)
        elif self.config.distance_decay == 1 and not self.config.directed:
            return np.zeros(0)
        weights = np.power(self.config.distance_decay, np.arange(longest + 1))
        # Weights that underflow to 0 are cut off: a sum of 0 means that a pair never occurred.
        return weights[weights > _LEAST]

    def _factors(self, totals: Scores) -> Scores:
        """Factors by item, [3, items]: as the query item, as the candidate, and d of jaccard."""
        users = totals[1 : self.num_items + 1]
        # If long rows were cut, an item may have no user left; it must not cause a division by 0.
        weight = np.where(users > 0, totals[self.num_items + 1 :], 1.0)
        query, candidate = np.ones(self.num_items), np.ones(self.num_items)
        if self.config.similarity == "cosine":
            query = candidate = 1.0 / np.sqrt(weight)
        elif self.config.similarity == "conditional":
            query = 1.0 / weight
        elif self.config.similarity == "lift":
            query, candidate = totals[0] / weight, 1.0 / weight
        damped = np.maximum(users, 1.0) ** -self.config.popularity_damping
        return np.stack([query, candidate * damped, weight])


@compiled
def _entries(indptr: Ints, items: Numbers, place: Ints, own: int) -> tuple[Ints, Ints, Numbers]:
    """The columns of the block's items in the matrix of rows (CSC).

    Returns
    -------
    begins, entries, users
        [own + 1], where each column begins; and for each of its entries the position in `items` and
        the user.
    """
    begins = np.zeros(own + 1, np.int64)
    for item in items:
        if place[item] >= 0:
            begins[place[item] + 1] += 1
    for i in range(own):
        begins[i + 1] += begins[i]
    free = begins[:-1].copy()
    entries = np.empty(begins[own], np.int64)
    users = np.empty(begins[own], np.int32)
    for user in range(len(indptr) - 1):
        for entry in range(indptr[user], indptr[user + 1]):
            i = place[items[entry]]
            if i >= 0:
                entries[free[i]] = entry
                users[free[i]] = user
                free[i] += 1
    return begins, entries, users


@compiled
def _neighbours(
    indptr: Ints,
    items: Numbers,
    begins: Ints,
    entries: Ints,
    users: Numbers,
    user_weights: Scores,
    item_weights: Scores,
    distance_weights: Scores,
    directed: bool,
    counting: bool,
    sums: Scores,
    counts: Scores,
    last: bool,
    own: Numbers,
    factors: Scores,
    jaccard: bool,
    shrinkage: float,
    min_cooccurrence: int,
    found: Numbers,
    scores: Scores,
) -> None:
    """Add a chunk of rows to the sums of the block's items; after the last, choose the neighbours.

    `sums` and `counts` have a row for each item of the block. If this is the only chunk they have
    a single row, which all items use in turn.
    """
    num_items = sums.shape[1]
    width = found.shape[1]
    flat = len(distance_weights) == 0
    even = len(item_weights) == 0
    touched = np.empty(num_items, np.int32)
    for i in range(len(own)):
        row = sums[i % sums.shape[0]]
        count = counts[i % counts.shape[0]]
        work = 0
        for e in range(begins[i], begins[i + 1]):
            work += indptr[users[e] + 1] - indptr[users[e]]
        # If there are many sums to update, it is cheaper to scan all items at the end than to
        # maintain a list of the items with a sum.
        every = sums.shape[0] > 1 or work > num_items
        size = num_items if every else 0
        for e in range(begins[i], begins[i + 1]):
            user, entry = users[e], entries[e]
            weight = user_weights[user] if even else user_weights[user] * item_weights[entry]
            start, stop = indptr[user], indptr[user + 1]
            if every and flat and even and not counting:
                for other in range(start, stop):
                    row[items[other]] += weight
                continue
            if not flat:
                start = entry + 1 if directed else max(start, entry + 1 - len(distance_weights))
                stop = min(stop, entry + len(distance_weights))
            for other in range(start, stop):
                j = items[other]
                if not every and row[j] == 0.0:
                    touched[size] = j
                    size += 1
                added = weight if flat else weight * distance_weights[abs(other - entry)]
                row[j] += added if even else added * item_weights[other]
                if counting:
                    count[j] += 1.0
        if not last:
            continue
        kept = 0
        for t in range(size):
            j = t if every else touched[t]
            together = row[j]
            if together == 0.0:
                continue
            row[j] = 0.0
            number = 1.0
            if counting:
                number = count[j]
                count[j] = 0.0
            if j == own[i] or number < min_cooccurrence:
                continue
            score = together * factors[1, j]
            if jaccard:
                score /= factors[2, own[i]] + factors[2, j] - together
            else:
                score *= factors[0, own[i]]
            if shrinkage > 0.0:
                score *= number / (number + shrinkage)
            if kept < width or score >= scores[i, 0]:
                kept = push(found[i], scores[i], kept, j, score)
        sort(found[i], scores[i], kept)

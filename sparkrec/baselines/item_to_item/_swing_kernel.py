"""Swing on one item block: each pair of users is intersected once for many items.

In this module items are numbered by popularity, 0 is the most popular. For an item i of the block,
its users are compared in pairs: the items that both users have are listed, and the weight of the
pair is added to the similarity of i and each of the listed items that is more popular than i. The
similarity is symmetric, so it enters the lists of both items; comparing i only with more popular
items halves the work. Most of the time goes into these additions, one for every combination of a
pair of items and a pair of users that have both, at about a nanosecond each.

The cost of listing the items that two users share is in proportion to the length of the shorter
row. Popular items have most pairs of users in common, so they are processed together as a tile. A
bit for each user and each item of the tile says whether the user is compared for the item; the
`and` of the bits of two users gives the items for which the pair counts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparkrec.baselines.item_to_item._blocks import Block, Found, Scores
from sparkrec.baselines.item_to_item._swing_users import Sample, as_matrix, sample_users
from sparkrec.baselines.item_to_item._user_rows import Ints, Numbers, UserRows
from sparkrec.compiled import compiled
from sparkrec.retrieval.search.heap import push, sort
from sparkrec.splitmix64 import Words

Bytes = npt.NDArray[np.uint8]

# Memory for the sums of a tile. Access is uneven: most additions go to a small part of it.
_SUM_BYTES = 2**26
# Number of bits in the words that hold the members of a tile.
_BITS = 64
# Testing whether a pair of users has a common bit costs at most a quarter of comparing the pair.
_LOOKS = 4
# Number of items in a batch of results.
_BATCH = 2**16


@dataclass(frozen=True)
class UserPairs:
    """The kernel of Swing.

    Attributes
    ----------
    alpha, smoothing, exponent, max_users_per_item, num_neighbours
        As in `SwingConfig`.
    seed
        Seed of the samples.
    rank
        int32 [items]: the rank of each item by popularity.
    chunk_items
        Number of items in a chunk of rows.
    """

    alpha: float
    smoothing: float
    exponent: float
    max_users_per_item: int
    num_neighbours: int
    seed: int
    rank: Numbers
    chunk_items: int

    def __call__(self, block: Block) -> Iterator[Found]:
        chunks = (
            UserRows(rows.indptr, self.rank[rows.items])
            for rows, _ in block.chunks(self.chunk_items)
        )
        return self.neighbours(self.rank[block.items], chunks)

    def neighbours(self, own: Numbers, chunks: Iterable[UserRows]) -> Iterator[Found]:
        """The best pairs of an item of the block and a more popular item, in the lists of both.

        Parameters
        ----------
        own
            The items of the block, as ranks, distinct.
        chunks
            The rows of all users that have an item of the block, with items as ranks.

        Yields
        ------
        items, neighbours, scores
            Each item once, with its best neighbours among these pairs; of two neighbours with the
            same score the more popular one is first.
        """
        items = len(self.rank)
        sample = sample_users(chunks, own, items, self.max_users_per_item, self.seed)
        # Conversion to CSC and back sorts the items of every row.
        matrix = as_matrix(sample.rows, items).tocsc().tocsr()
        weights = np.power(sample.rows.lengths + self.smoothing, -self.exponent)
        space = _Space.of(items)
        found = np.full((items, self.num_neighbours), -1, np.int32)
        scores = np.zeros(found.shape)
        sizes = np.zeros(items, np.int64)
        for tile in _tiles(sample.members, len(sample.rows), len(space.sums)):
            space.bit_of[own[tile]] = np.arange(len(tile))
            users, bits = _members(sample, tile)
            size = _add_pairs(
                matrix.indptr, matrix.indices, weights, users, bits, self.alpha, *space
            )
            columns = space.columns[:size]
            _keep(own[tile], columns, sample.scale[tile], space.sums, found, scores, sizes)
            space.bit_of[own[tile]] = -1
        _sort_all(found, scores, sizes)
        some = np.flatnonzero(sizes).astype(np.int32)
        for start in range(0, len(some), _BATCH):
            batch = some[start : start + _BATCH]
            yield batch, found[batch], scores[batch]


def _members(sample: Sample, tile: Ints) -> tuple[Numbers, Words]:
    """The users of a tile, ascending, and a bit for each item of the tile, [users, words]."""
    users = np.unique(np.concatenate([sample.members[place] for place in tile]))
    bits = np.zeros((len(users), len(tile) // _BITS + 1), np.uint64)
    for bit, place in enumerate(tile):
        mine = np.searchsorted(users, sample.members[place])
        bits[mine, bit // _BITS] |= np.uint64(1 << bit % _BITS)
    return users, bits


def _tiles(members: list[Numbers], users: int, width: int) -> Iterator[Ints]:
    """Yield positions in `members` of the items of each tile, those with the most users first."""
    counts = np.array([len(mine) for mine in members], np.int64)
    inside = np.zeros(users, bool)
    tile: list[int] = []
    size, pairs = 0, 0
    for place in np.argsort(-counts, kind="stable"):
        new = counts[place] - np.count_nonzero(inside[members[place]])
        together = pairs + counts[place] ** 2
        if tile and (len(tile) == width or (size + new) ** 2 > _LOOKS * together):
            yield np.array(tile)
            for done in tile:
                inside[members[done]] = False
            tile, size, new, together = [], 0, counts[place], counts[place] ** 2
        inside[members[place]] = True
        tile, size, pairs = [*tile, place], size + new, together
    if tile:
        yield np.array(tile)


class _Space(NamedTuple):
    """Working memory that every tile uses again. Between tiles it is zero, and -1 in `bit_of`."""

    bit_of: Numbers
    mine: Bytes
    shared: npt.NDArray[np.uint32]
    touched: Bytes
    columns: Numbers
    sums: Scores

    @classmethod
    def of(cls, items: int) -> "_Space":
        tile = min(items, max(1, _SUM_BYTES // (8 * items)))
        return cls(
            bit_of=np.full(items, -1, np.int32),
            mine=np.zeros(items, np.uint8),
            shared=np.zeros(items + 1, np.uint32),
            touched=np.zeros(items, np.uint8),
            columns=np.zeros(items, np.int32),
            sums=np.zeros((tile, items)),
        )


@compiled
def _add_pairs(
    indptr: Ints,
    items: Numbers,
    weights: Scores,
    users: Numbers,
    bits: Words,
    alpha: float,
    bit_of: Numbers,
    mine: Bytes,
    shared: npt.NDArray[np.uint32],
    touched: Bytes,
    columns: Numbers,
    sums: Scores,
) -> int:
    """Add the weights of all pairs of `users` to the sums of a tile.

    `users` are sorted by row length, longest first, so that the shorter row of a pair is read. The
    items of a row are ascending, so the items before an item are more popular.

    Returns
    -------
    int
        Number of items at the start of `columns`: the items that may have a sum.
    """
    no_bit, one_bit = np.uint64(0), np.uint64(1)
    size = 0
    for first in range(len(users)):
        u = users[first]
        for entry in range(indptr[u], indptr[u + 1]):
            item = items[entry]
            mine[item] = 1
            if touched[item] == 0:
                touched[item] = 1
                columns[size] = item
                size += 1
        for second in range(first + 1, len(users)):
            v = users[second]
            together = False
            for word in range(bits.shape[1]):
                together |= (bits[first, word] & bits[second, word]) != no_bit
            if not together:
                continue
            # Every item is written, but only kept if `count` increases. A branch would be slower.
            count = 0
            for entry in range(indptr[v], indptr[v + 1]):
                item = items[entry]
                shared[count] = item
                count += mine[item]
            weight = weights[u] * weights[v] / (alpha + count)
            for i in range(count):
                place = bit_of[shared[i]]
                if place < 0:
                    continue
                both = bits[first, place // _BITS] & bits[second, place // _BITS]
                if (both >> np.uint64(place % _BITS)) & one_bit != no_bit:
                    row = sums[place]
                    for j in range(i):
                        row[shared[j]] += weight
        for entry in range(indptr[u], indptr[u + 1]):
            mine[items[entry]] = 0
    for i in range(size):
        touched[columns[i]] = 0
    return size


@compiled
def _keep(
    own: Numbers,
    columns: Numbers,
    scale: Scores,
    sums: Scores,
    found: Numbers,
    scores: Scores,
    sizes: Ints,
) -> None:
    """Push the sums of a tile to the lists of both items, and reset the sums to zero."""
    for place in range(len(own)):
        i, row = own[place], sums[place]
        for j in columns:
            if row[j] > 0.0:
                score = row[j] * scale[place]
                row[j] = 0.0
                sizes[i] = push(found[i], scores[i], sizes[i], j, score)
                sizes[j] = push(found[j], scores[j], sizes[j], i, score)


@compiled
def _sort_all(found: Numbers, scores: Scores, sizes: Ints) -> None:
    """Sort the heap of each item into a list, best first."""
    for item in range(len(sizes)):
        sort(found[item], scores[item], sizes[item])

"""Swing on one block: pairs of users, each intersected once for many items.

Items are numbered by popularity here, 0 the most popular. For an own item i the users that have it
are compared in pairs: the items that both have are listed, and those before i gain the pair's
weight as neighbours of i. Similarity is symmetric, so what is found goes to both lists; that i is
only compared with more popular items halves the work. What costs time is the adding: one addition
for every (pair of items, pair of users) that goes together, a nanosecond each.

Listing what two users share costs as much as the shorter row is long. Popular items have most of
their pairs in common, so they are taken together as a tile: a bit for each user and item of it
says whether the user is compared for the item, `and` of the bits for which items a pair counts.
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

# Of the sums of a tile. They are spread unevenly: few bytes of it are used often.
_SUM_BYTES = 2**26
# Bits of the words that hold a tile's members.
_BITS = 64
# Looking at a pair of users that may share nothing costs a quarter of comparing one, or less.
_LOOKS = 4
# Items of a batch of results.
_BATCH = 2**16


@dataclass(frozen=True)
class UserPairs:
    """The kernel of Swing.

    Attributes
    ----------
    alpha, smoothing, exponent, max_users_per_item, num_neighbours
        As in `SwingConfig`.
    seed
        Of the samples.
    rank
        int32 [items]: the places of the items by popularity.
    chunk_items
        Rows are taken in chunks of so many items.
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
        """The best pairs of an own item and a more popular one, in the lists of both.

        Parameters
        ----------
        own
            Items, by popularity, distinct.
        chunks
            Rows, of items by popularity, of all users that have an own item.

        Yields
        ------
        items, neighbours, scores
            Each item once, with its best neighbours of these pairs, of ties the more popular first.
        """
        items = len(self.rank)
        sample = sample_users(chunks, own, items, self.max_users_per_item, self.seed)
        # There and back leaves the items of every row in ascending order.
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
    """The users of a tile, ascending, and [users, words] a bit for each item of the tile."""
    users = np.unique(np.concatenate([sample.members[place] for place in tile]))
    bits = np.zeros((len(users), len(tile) // _BITS + 1), np.uint64)
    for bit, place in enumerate(tile):
        mine = np.searchsorted(users, sample.members[place])
        bits[mine, bit // _BITS] |= np.uint64(1 << bit % _BITS)
    return users, bits


def _tiles(members: list[Numbers], users: int, width: int) -> Iterator[Ints]:
    """Places of own items that are worth taking together, the most popular first."""
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
    """Working memory, used again for every tile: zeros, but -1 in `bit_of`."""

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

    `users` come with the longest rows first, so that the shorter row of a pair is walked; rows
    are ascending, so that what stands before an item is more popular.

    Returns
    -------
    int
        How many of `columns` hold an item that may have a sum.
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
            # Every item is written, and stays if `count` goes on: a branch would cost more.
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
    """Offer the sums of a tile to the lists of both items, and clear them."""
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
    """Turn the heap of each item into a list."""
    for item in range(len(sizes)):
        sort(found[item], scores[item], sizes[item])

"""The users that Swing compares for the items of a block: all, or a sample if there are many."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from sparkrec.baselines.item_to_item._user_rows import Ints, Numbers, UserRows
from sparkrec.compiled import compiled
from sparkrec.splitmix64 import Words, mixed

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Users to compare, those with the most items first.

    Attributes
    ----------
    rows
        The items of the users, at least two each; users with one item contribute to no pair.
    members
        For each item of the block, the users (row numbers, ascending) that are compared for it.
    scale
        float64, for each item of the block: the number of pairs of its users divided by the number
        of pairs of its `members`; 1 if all users are members.
    """

    rows: UserRows
    members: list[Numbers]
    scale: Scores


def sample_users(
    chunks: Iterable[UserRows], own: Numbers, num_items: int, most: int, seed: int
) -> Sample:
    """Draw at most `most` users for each item of the block, independently of their order.

    Parameters
    ----------
    chunks
        The rows of all users that have an item of the block.
    own
        The items of the block.
    num_items
        Number of items in the catalogue.
    most
        Maximum number of users for an item.
    seed
        Seed of the draws.

    Notes
    -----
    Rows that were drawn for no item are dropped after every chunk, so memory holds one chunk and
    at most `most` rows for each item of the block, plus 16 bytes for each distinct row if there is
    more than one chunk.

    The draw of a user depends only on the seed, the item and the user's items, and not on the
    partition and the position of the row. Users with the same items have different draws; as their
    rows are equal, it does not matter which of them gets which draw. For the same reason the order
    of the users, and so the rounding of every sum, is always the same.
    """
    sampler = _Sampler(own, num_items, most, seed)
    for rows in chunks:
        sampler.drop_others()
        sampler.add(rows)
    return sampler.result()


def as_matrix(rows: UserRows, num_items: int) -> sparse.csr_matrix:
    """The rows as a matrix [users, items], int8, 1 where a user has an item; shares memory."""
    content = (np.ones(len(rows.items), np.int8), rows.items, rows.indptr)
    return sparse.csr_matrix(content, (len(rows), num_items))


class _Sampler:
    def __init__(self, own: Numbers, num_items: int, most: int, seed: int) -> None:
        self._own, self._num_items, self._most, self._seed = own, num_items, most, seed
        self._item_hashes = mixed(np.arange(num_items, dtype=np.uint64), seed)
        self._users = np.zeros(len(own), np.int64)
        self._rows = UserRows(np.zeros(1, np.int64), np.empty(0, np.int32))
        self._keys = np.empty(0, np.uint64)
        self._copies = pd.Series(index=pd.Index([], np.uint64), dtype=np.int64)

    def add(self, rows: UserRows) -> None:
        if (rows.lengths < 2).any():
            rows = rows.take(np.flatnonzero(rows.lengths > 1))
        self._keys = np.concatenate([self._keys, self._draw(rows)])
        self._users += np.bincount(rows.items, minlength=self._num_items)[self._own]
        self._rows = UserRows.concatenate([part for part in (self._rows, rows) if len(part)])

    def drop_others(self) -> None:
        """Drop the rows that were drawn for no item of the block."""
        if not len(self._rows):
            return
        kept = np.unique(np.concatenate(self._drawn())).astype(np.int64)
        if len(kept) < len(self._rows):
            self._rows, self._keys = self._rows.take(kept), self._keys[kept]

    def result(self) -> Sample:
        order = np.lexsort((self._keys, -self._rows.lengths))
        self._rows, self._keys = self._rows.take(order), self._keys[order]
        members = self._drawn()
        compared = np.array([len(users) for users in members], np.float64)
        scale = np.ones(len(members))
        some = self._users > compared
        pairs = (self._users * (self._users - 1.0))[some]
        scale[some] = pairs / np.maximum(compared * (compared - 1.0), 1.0)[some]
        return Sample(self._rows, members, scale)

    def _draw(self, rows: UserRows) -> Words:
        """A random number for each row; equal rows get different numbers."""
        hashes = pd.Series(_row_hashes(rows.indptr, rows.items, self._item_hashes))
        before = self._copies.reindex(hashes, fill_value=0).to_numpy()
        copy = hashes.groupby(hashes, sort=False).cumcount().to_numpy() + before
        now = hashes.value_counts(sort=False)
        self._copies = self._copies.add(now, fill_value=0).astype(np.int64)
        return mixed(hashes.to_numpy() ^ mixed(copy.astype(np.uint64), self._seed), self._seed)

    def _drawn(self) -> list[Numbers]:
        users = as_matrix(self._rows, self._num_items).tocsc()
        begins = users.indptr
        return [self._some(i, users.indices[begins[i] : begins[i + 1]]) for i in self._own]

    def _some(self, item: int, users: Numbers) -> Numbers:
        """The users of an item with the smallest draws."""
        if len(users) <= self._most:
            return users
        draws = mixed(self._keys[users] ^ self._item_hashes[item], self._seed)
        return np.sort(users[np.argpartition(draws, self._most)[: self._most]])


@compiled
def _row_hashes(indptr: Ints, items: Numbers, item_hashes: Words) -> Words:
    """The sum of the hashes of each user's items, [users]; it does not depend on their order."""
    hashes = np.zeros(len(indptr) - 1, np.uint64)
    for user in range(len(hashes)):
        for i in range(indptr[user], indptr[user + 1]):
            hashes[user] += item_hashes[items[i]]
    return hashes

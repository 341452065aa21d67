"""The users that Swing compares for the items of a block: all, or a sample where they are many."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse  # type: ignore[import-untyped]

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
        Their items, at least two each: a user with one item makes nothing alike.
    members
        For each own item the users (row numbers, ascending) that are compared for it.
    scale
        float64, for each own item: the number of pairs of its users over that of the pairs of its
        `members`; 1 where these are all.
    """

    rows: UserRows
    members: list[Numbers]
    scale: Scores


def sample_users(
    chunks: Iterable[UserRows], own: Numbers, num_items: int, most: int, seed: int
) -> Sample:
    """At most `most` users of each own item, drawn without regard to their order.

    Rows that no own item has drawn are dropped after every chunk, so what is held of the rows is a
    chunk and at most `most` rows an own item; with more than one chunk, 16 bytes for each distinct
    row come to it.

    Notes
    -----
    A user's draw depends on the seed, the item and the user's items alone, whatever the partition
    and place it came from. Users with the same items have draws of their own, and as their rows
    are the same, it makes no difference which of them has which. For the same reason the order of
    the users, and with it the rounding of every sum, is always the same.
    """
    sampler = _Sampler(own, num_items, most, seed)
    for rows in chunks:
        sampler.drop_others()
        sampler.add(rows)
    return sampler.result()


def as_matrix(rows: UserRows, num_items: int) -> sparse.csr_matrix:
    """The rows as [users, items], int8, 1 where a user has an item; shares their memory."""
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
        """Drop the rows that no own item has drawn."""
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
        """A number for each row, another one for each copy of a row."""
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
        """Of an item's users those with the smallest draws."""
        if len(users) <= self._most:
            return users
        draws = mixed(self._keys[users] ^ self._item_hashes[item], self._seed)
        return np.sort(users[np.argpartition(draws, self._most)[: self._most]])


@compiled
def _row_hashes(indptr: Ints, items: Numbers, item_hashes: Words) -> Words:
    """[users]: the sum of the hashes of each user's items, which knows no order."""
    hashes = np.zeros(len(indptr) - 1, np.uint64)
    for user in range(len(hashes)):
        for i in range(indptr[user], indptr[user + 1]):
            hashes[user] += item_hashes[items[i]]
    return hashes

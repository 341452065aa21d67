"""Users as rows of a sparse matrix, made without a sort in the JVM and without a join.

The events of a partition, which has all events of its users, are gathered as columns and sorted
once by numpy; repeated items are removed, and long rows are cut. Rows are sent to other tasks as
numpy buffers.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from sparkrec.compiled import compiled
from sparkrec.splitmix64 import Words, mixed

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
Bits = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float64]
Order = npt.NDArray[np.int64] | npt.NDArray[np.float64]

How = Literal["recent", "sampled"]

_HEADER = 2
_MOST = 2**63


@dataclass(frozen=True, eq=False)
class UserRows:
    """Users as the rows of a sparse matrix (CSR).

    Attributes
    ----------
    indptr
        int64 [users + 1]: the items of user u are items[indptr[u] : indptr[u + 1]].
    items
        int32: item numbers from 0 (positions in the catalogue), distinct within a user.
    weights
        float64, the weight of each of `items`, or empty if all have the same weight.
    """

    indptr: Ints
    items: Numbers
    weights: Weights = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def lengths(self) -> Ints:
        """Number of items of each user, [users]."""
        return np.diff(self.indptr)

    def slice(self, start: int, stop: int) -> "UserRows":
        """The users from `start` to before `stop`."""
        first, last = self.indptr[start], self.indptr[stop]
        indptr = self.indptr[start : stop + 1] - first
        return UserRows(indptr, self.items[first:last], self.weights[first:last])

    def take(self, users: Ints) -> "UserRows":
        """The rows of some users."""
        indptr = np.concatenate([[0], np.cumsum(self.lengths[users])]).astype(np.int64)
        items = np.empty(indptr[-1], np.int32)
        _copy_rows(self.indptr, self.items, users, indptr, items)
        weights = np.empty(0)
        if len(self.weights):
            weights = np.empty(indptr[-1])
            _copy_rows(self.indptr, self.weights, users, indptr, weights)
        return UserRows(indptr, items, weights)

    def of_block(self, block_of: Numbers, block: int) -> "UserRows":
        """The rows of the users who have an item of a block; `block_of` is int32 [items]."""
        return self.take(np.flatnonzero(_touched(self.indptr, self.items, block_of, block)))

    @classmethod
    def concatenate(cls, parts: list["UserRows"]) -> "UserRows":
        """The users of all parts, in the order of the parts."""
        if len(parts) == 1:
            return parts[0]
        lengths = [np.zeros(1, np.int64), *[part.lengths for part in parts]]
        items = [np.empty(0, np.int32), *[part.items for part in parts]]
        weights = [np.empty(0), *[part.weights for part in parts]]
        return cls(
            np.cumsum(np.concatenate(lengths)), np.concatenate(items), np.concatenate(weights)
        )

    def to_bytes(self) -> bytes:
        """Serialise: two int64 (users, items), lengths as uint32, items as uint16 or int32.

        Weights follow as float64, if there are any.
        """
        small = len(self.items) == 0 or int(self.items.max()) < 2**16
        header = np.array([len(self), len(self.items)], np.int64)
        items = self.items.astype(np.uint16) if small else self.items
        parts = (header, self.lengths.astype(np.uint32), items, self.weights)
        return b"".join(part.tobytes() for part in parts)

    @classmethod
    def from_bytes(cls, content: bytes) -> "UserRows":
        """Read the output of `to_bytes`."""
        users, size = (int(n) for n in np.frombuffer(content, np.int64, _HEADER))
        indptr = np.zeros(users + 1, np.int64)
        np.cumsum(np.frombuffer(content, np.uint32, users, 8 * _HEADER), out=indptr[1:])
        start = 8 * _HEADER + 4 * users
        # 2 or 4 bytes for an item, and 8 more for its weight.
        width = (len(content) - start) // max(size, 1)
        weights = np.empty(0)
        if width > 4:
            # Copied, because they may begin at any byte.
            weights = np.frombuffer(content, np.float64, size, len(content) - 8 * size).copy()
        kind = np.uint16 if width in (2, 10) else np.int32
        return cls(indptr, np.frombuffer(content, kind, size, start).astype(np.int32), weights)


def user_rows(
    users: pa.ChunkedArray,
    items: Numbers,
    num_items: int,
    timestamps: Order | None = None,
    positions: Order | None = None,
    max_items: int | None = None,
    how: How = "recent",
    seed: int = 0,
    weights: Weights | None = None,
) -> UserRows:
    """Make the rows of all users of some events; users are in the order of their ids.

    Parameters
    ----------
    users
        The user of each event, integers or text, without nulls.
    items
        Item number of each event, below `num_items`.
    timestamps, positions
        Used with `how="recent"`: the items of a row are ordered by (timestamp, position, item
        number). If a user has several events with an item, the last one counts.
    max_items
        Maximum number of items of a user; None for no limit.
    how
        `recent` takes the latest items. `sampled` takes a sample that depends only on the seed, the
        user id and the item; the items of a row are then ordered by item number.
    seed
        Seed of the sample.
    weights
        Weight of each event. The weight of an item is the sum over the user's events with it.
    """
    encoded = users.dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    by_id = np.asarray(pa.compute.sort_indices(encoded.dictionary))
    rank = np.empty(len(by_id), np.int64)
    rank[by_id] = np.arange(len(by_id))
    codes = rank[encoded.indices.to_numpy()]
    keys = [items] if how == "sampled" else [items, positions, timestamps]
    order = np.lexsort(_packed([key for key in [*keys, codes] if key is not None]))
    ends = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(by_id)))])
    cap = max_items if max_items is not None and how == "recent" else len(order)
    rows = UserRows(*_last_of_each(ends, items[order], num_items, cap))
    if how == "sampled" and max_items is not None:
        ids = encoded.dictionary.take(pa.array(by_id)).to_pandas()
        rows = _sampled(rows, pd.util.hash_array(ids.to_numpy()), max_items, seed)
    if weights is None:
        return rows
    return replace(rows, weights=_summed(rows, codes, items, weights, num_items))


def _summed(
    rows: UserRows, users: Ints, items: Numbers, weights: Weights, num_items: int
) -> Weights:
    """The weight of every item of the rows, summed over events with a user's number and an item."""
    pairs, of_event = np.unique(users * num_items + items, return_inverse=True)
    sums = np.bincount(of_event, weights, minlength=len(pairs)).astype(np.float64)
    wanted = np.repeat(np.arange(len(rows)), rows.lengths) * num_items + rows.items
    return sums[np.searchsorted(pairs, wanted)]


def _packed(keys: list[Order]) -> list[Order]:
    """Pack sort keys (the last one is the primary key) into fewer columns, several integers in one.

    numpy sorts column by column, and sorting takes most of the time of making rows.
    """
    packed: list[Order] = []
    span = _MOST
    for key in keys:
        if key.dtype.kind != "i" or not len(key):
            packed.append(key)
            span = _MOST
            continue
        least = int(key.min())
        width = int(key.max()) - least + 1
        if span * width < _MOST:
            packed[-1] = packed[-1] + (key.astype(np.int64) - least) * span
            span *= width
        elif width < _MOST:
            packed.append(key.astype(np.int64) - least)
            span = width
        else:
            packed.append(key)
            span = _MOST
    return packed


def _sampled(rows: UserRows, hashes: Words, max_items: int, seed: int) -> UserRows:
    """Take at most `max_items` of each user: those with the smallest hash of (user, item, seed)."""
    keep = np.ones(len(rows.items), bool)
    for user in np.flatnonzero(rows.lengths > max_items):
        start, stop = rows.indptr[user], rows.indptr[user + 1]
        draw = mixed(mixed(rows.items[start:stop].astype(np.uint64) + hashes[user], seed), seed)
        keep[start:stop][np.argpartition(draw, max_items)[max_items:]] = False
    lengths = np.minimum(rows.lengths, max_items)
    return UserRows(np.concatenate([[0], np.cumsum(lengths)]), rows.items[keep])


@compiled
def _last_of_each(
    ends: Ints, items: Numbers, num_items: int, max_items: int
) -> tuple[Ints, Numbers]:
    """For each user, take the last event of every item, and the last `max_items` of these."""
    users = len(ends) - 1
    had_by = np.full(num_items, -1, np.int64)
    kept = np.empty(len(items), np.int32)
    indptr = np.zeros(users + 1, np.int64)
    # Events are read backwards, so `kept` is filled from its end.
    free = len(items)
    for user in range(users - 1, -1, -1):
        before = free
        for event in range(ends[user + 1] - 1, ends[user] - 1, -1):
            item = items[event]
            if had_by[item] != user:
                had_by[item] = user
                free -= 1
                kept[free] = item
                if before - free == max_items:
                    break
        indptr[user + 1] = before - free
    for user in range(users):
        indptr[user + 1] += indptr[user]
    return indptr, kept[free:].copy()


@compiled
def _copy_rows(
    indptr: Ints, items: Numbers | Weights, users: Ints, target: Ints, out: Numbers | Weights
) -> None:
    for row in range(len(users)):
        start = indptr[users[row]]
        for i in range(target[row + 1] - target[row]):
            out[target[row] + i] = items[start + i]


@compiled
def _touched(indptr: Ints, items: Numbers, block_of: Numbers, block: int) -> Bits:
    """Whether each user has an item of the block, [users]."""
    touched = np.zeros(len(indptr) - 1, np.bool_)
    for user in range(len(touched)):
        for i in range(indptr[user], indptr[user + 1]):
            if block_of[items[i]] == block:
                touched[user] = True
                break
    return touched

"""The items that a model knows: raw ids in dense order, and their counts. Imports no Spark."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from sparkrec.errors import DataError
from sparkrec.io.arrow import read_parquet, write_parquet
from sparkrec.item_index import FIRST_ITEM, PADDING, UNKNOWN

Ints = npt.NDArray[np.int64]


@dataclass(eq=False)
class Catalogue:
    """Items in dense order: item i has the dense index i + 2 (0 is padding, 1 unknown).

    Attributes
    ----------
    ids
        Raw item ids, distinct.
    counts
        Number of events of each item in train; 0 for items that only an earlier model had.
    """

    ids: pa.Array
    counts: Ints
    _lookup: pd.Index | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        return {"ids": self.ids, "counts": self.counts, "_lookup": None}

    @cached_property
    def order(self) -> Ints:
        """The rank of each item among the sorted raw ids, int64 [items]; it breaks ties."""
        rank = np.empty(len(self.ids), np.int64)
        rank[np.asarray(pa.compute.sort_indices(self.ids))] = np.arange(len(self.ids))
        return rank

    @cached_property
    def popular(self) -> Ints:
        """Item numbers (from 0) by count, largest first, ties by raw id."""
        return np.lexsort((self.order, -self.counts)).astype(np.int64)

    def index(self, ids: pa.Array | pa.ChunkedArray) -> Ints:
        """Dense indices of raw ids: 0 for null, 1 for an id that is not in the catalogue."""
        # An id too large for the catalogue's own integers is unknown, not an error.
        wide = pa.int64() if pa.types.is_integer(self.ids.type) else self.ids.type
        if self._lookup is None:
            self._lookup = pd.Index(self.ids.cast(wide).to_numpy(zero_copy_only=False))
        if isinstance(ids, pa.ChunkedArray):
            ids = ids.combine_chunks()
        values = ids.cast(wide)
        if wide == pa.int64():
            # numpy has no integer nulls; it would convert to floats, which round large ids.
            values = values.fill_null(0)
        found = self._lookup.get_indexer(values.to_numpy(zero_copy_only=False)).astype(np.int64)
        found = np.where(found < 0, UNKNOWN, found + FIRST_ITEM)
        if ids.null_count:
            found[np.asarray(ids.is_null())] = PADDING
        return found

    def numbers(self, ids: pa.Array | pa.ChunkedArray) -> Ints:
        """Item numbers (from 0) of raw ids; negative for null and for unknown ids."""
        return self.index(ids) - FIRST_ITEM

    def grow(self, new: "Catalogue") -> "Catalogue":
        """The items of both. Old items keep their dense index; the counts are those of `new`."""
        if self.ids.type != new.ids.type:
            raise DataError(
                f"the earlier model's item ids are {self.ids.type}, those of train {new.ids.type}"
            )
        added = pa.compute.invert(pa.compute.is_in(new.ids, value_set=self.ids))
        ids = pa.concat_arrays([self.ids, new.ids.filter(added)])
        positions = new.numbers(ids)
        known = positions >= 0
        counts = np.where(known, new.counts[np.where(known, positions, 0)], 0)
        return Catalogue(ids, counts)

    def with_new(self, ids: pa.Array) -> "Catalogue":
        """The items and others that no event of train has, after them, with a count of 0."""
        return Catalogue(pa.concat_arrays([self.ids, ids]), np.pad(self.counts, (0, len(ids))))

    def where(self, kept: npt.NDArray[np.bool_]) -> "Catalogue":
        """The items of a mask [items], in their order."""
        return Catalogue(self.ids.filter(pa.array(kept)), self.counts[kept])

    def write(self, path: str) -> None:
        """Write as one parquet file: `item_id`, `count`, in dense order."""
        table = pa.table({"item_id": self.ids, "count": pa.array(self.counts)})
        write_parquet(path, table)

    @classmethod
    def read(cls, path: str) -> "Catalogue":
        """Read the output of `write`."""
        table = read_parquet(path)
        ids = table.column("item_id").combine_chunks()
        return cls(ids, table.column("count").to_numpy().astype(np.int64))

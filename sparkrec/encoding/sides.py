"""Encodes both sides of a network as matrices: dense item indices, then rows of declared features.

DSSM represents items by their declared features only. Models that read a history use dense item
indices: their user side is ``[recent items | other features]`` and their item side ``[item]``. The
history is the feature `recent_<item>s` of the user schema. If such a model reads the content of
items, that is given to the network apart, by dense index.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.item_features import ItemFeatures
from sparkrec.item_index import FIRST_ITEM, PADDING, UNKNOWN
from sparkrec.models.two_tower import TowerInput
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.parser import FeatureSchema

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class QueryEncoder:
    """The user side: the last `length` known items of the column `history`, then features.

    Attributes
    ----------
    schema
        All declared features of the side, including the history.
    features
        Encoder of the other features.
    catalogue
        The items.
    history
        Column of the recent items, oldest first; None for models that read no dense item indices.
    length
        Number of the latest items that are read; 0 if `history` is None.
    """

    schema: FeatureSchema
    features: FeatureEncoder
    catalogue: Catalogue
    history: str | None = None
    length: int = 0

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return self.length + self.features.width

    @property
    def tower_input(self) -> TowerInput:
        """The shape of this side, for the network."""
        items = len(self.catalogue) + FIRST_ITEM if self.length else 0
        features = self.features
        return TowerInput(features.num_rows, tuple(features.slices), self.length, items)

    def encode(self, table: pa.Table | pa.RecordBatch) -> Ints:
        """int64 [rows, width]. Items that are not in the catalogue are left out of a history."""
        encoded = self.features.encode(table)
        if self.history is None:
            return encoded
        lists = table.column(self.history)
        if isinstance(lists, pa.ChunkedArray):
            lists = lists.combine_chunks()
        return np.concatenate([recent_items(lists, self.length, self.catalogue), encoded], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Everything but the vocabularies."""
        of_features = self.features.to_json()
        own = {"declared": self.schema.to_json(), "history": self.history, "length": self.length}
        return own | of_features

    @classmethod
    def restore(
        cls, data: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], catalogue: Catalogue
    ) -> "QueryEncoder":
        """Restore the encoder from the output of `to_json` and the vocabulary of its features."""
        features = FeatureEncoder.restore(data, arrays)
        schema = FeatureSchema.from_json(data["declared"])
        return cls(schema, features, catalogue, data["history"], data["length"])


@dataclass(frozen=True, eq=False)
class ItemEncoder:
    """The item side: the dense index of the item if `dense`, otherwise its features.

    Attributes
    ----------
    features
        Encoder of the declared features; with `dense`, those are the content that the network
        reads beside the index, or none.
    catalogue
        The items.
    dense
        Whether the network takes items by dense index.
    """

    features: ItemFeatures
    catalogue: Catalogue
    dense: bool = False

    @property
    def tower_input(self) -> TowerInput:
        """The shape of this side, for the network."""
        rows, floats = self.features.rows, self.features.num_floats
        if self.dense:
            items = len(self.catalogue) + FIRST_ITEM
            return TowerInput(rows.num_rows, tuple(rows.slices), 1, items, floats)
        return TowerInput(rows.num_rows, tuple(rows.slices))

    def matrix(self, items: pa.Table) -> Ints:
        """Encode the catalogue's items, in its order; int64 [items + 2, width] by dense index."""
        if self.dense:
            return np.arange(len(self.catalogue) + FIRST_ITEM)[:, None]
        return _by_index(self.features.encode_rows(items))

    @property
    def reads_content(self) -> bool:
        """Whether the network reads the content of items beside the dense index."""
        return self.dense and bool(self.features.declared.features)

    def content(self, items: pa.Table) -> dict[str, npt.NDArray[Any]]:
        """The content of the catalogue's items by dense index, for `TwoTowerNetwork.set_content`.

        Empty if the network does not read any.
        """
        if not self.reads_content:
            return {}
        found = self.features.encode(items)
        return {name: _by_index(value) for name, value in found.arrays().items()}

    def to_json(self) -> dict[str, Any]:
        """Everything but the vocabularies."""
        return {"dense": self.dense} | self.features.to_json()

    @classmethod
    def restore(
        cls, data: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], catalogue: Catalogue
    ) -> "ItemEncoder":
        """Restore the encoder from the output of `to_json` and the vocabulary of its features."""
        return cls(ItemFeatures.restore(data, arrays), catalogue, data["dense"])


def _by_index(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows of items by dense index: zeros for padding and unknown come first."""
    return np.pad(values, ((FIRST_ITEM, 0), (0, 0)))


def recent_items(lists: pa.Array, length: int, catalogue: Catalogue) -> Ints:
    """The last `length` known items of every list as dense indices, int64 [lists, length].

    Padding (0) comes after the last item. Items that are not in the catalogue are left out first.
    """
    items, read, place = _recent(lists, length, catalogue)
    matrix = np.full((len(lists), length), PADDING, np.int64)
    matrix[place] = items[read]
    return matrix


def recent_values(
    lists: pa.Array, values: pa.Array, length: int, catalogue: Catalogue
) -> npt.NDArray[Any]:
    """The values that stand beside the items of `recent_items`, [lists, length]; 0 for padding.

    Parameters
    ----------
    values
        Lists of numbers, as long as those of the items.
    """
    _, read, place = _recent(lists, length, catalogue)
    numbers = pa.compute.list_flatten(values).to_numpy(zero_copy_only=False)
    matrix = np.zeros((len(lists), length), numbers.dtype)
    matrix[place] = numbers[read]
    return matrix


def _recent(
    lists: pa.Array, length: int, catalogue: Catalogue
) -> tuple[Ints, Ints, tuple[Ints, Ints]]:
    """All items of the lists, which of them are read, and the places of these in the matrix."""
    lengths = np.asarray(pa.compute.fill_null(pa.compute.list_value_length(lists), 0))
    items = catalogue.index(pa.compute.list_flatten(lists))
    known = np.flatnonzero(items > UNKNOWN)
    rows = np.repeat(np.arange(len(lists)), lengths)[known]
    counts = np.bincount(rows, minlength=len(lists))
    starts = np.cumsum(counts) - counts
    place = np.arange(len(rows)) - starts[rows] - np.maximum(counts - length, 0)[rows]
    return items, known[place >= 0], (rows[place >= 0], place[place >= 0])

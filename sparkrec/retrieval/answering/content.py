"""Bags of items' feature values: how two items are alike by content alone. Imports no Spark.

The bag of an item has the values of its declared features, among them the words of its texts. A
value is weighted by how rare it is among the items of train (idf), and a bag has unit length, so
the inner product of two bags is their cosine.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.item_features import ItemFeatures
from sparkrec.io import storage
from sparkrec.io.arrow import read_parquet, write_parquet
from sparkrec.retrieval.search.searcher import Mask, Pairs, Searcher
from sparkrec.retrieval.search.topk import Floats, Ints, best_of
from sparkrec.schema.encoder import UNKNOWN_ROW
from sparkrec.schema.text import idf

_ITEMS, _VOCABULARY, _BAGS = "items.parquet", "vocabulary.parquet", "bags.parquet"


def write_features(folder: str, features: ItemFeatures) -> dict[str, Any]:
    """Write the vocabulary below a model's folder; returns the entries for `model.json`."""
    write_parquet(storage.join(folder, _VOCABULARY), pa.table(features.arrays()))
    return {"item": features.to_json()}


def read_features(folder: str, description: dict[str, Any]) -> ItemFeatures:
    """What `write_features` wrote."""
    table = read_parquet(storage.join(folder, _VOCABULARY))
    arrays = {name: table.column(name).to_numpy() for name in table.column_names}
    return ItemFeatures.restore(description["item"], arrays)


def feature_matrix(features: ItemFeatures, items: pa.Table) -> sparse.csr_array:
    """The values of items' features with the weights of `Content`, and their numbers behind them.

    Returns
    -------
    csr_array
        float32 [items, rows of the vocabulary + numbers]. Unknown values have no entry.
    """
    content = features.encode(items)
    values = _rows(content.rows.astype(np.int64), content.weights, features.rows.num_rows)
    return sparse.hstack([values, sparse.csr_array(content.floats)], format="csr")


def _rows(rows: Ints, weights: Floats, width: int) -> sparse.csr_array:
    """A row of a matrix [items, width] from the places and weights [items, values] of each item."""
    known = rows > UNKNOWN_ROW
    offsets = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    matrix = sparse.csr_array((weights[known], rows[known], offsets), shape=(len(rows), width))
    matrix.sum_duplicates()
    return matrix


@dataclass(frozen=True, eq=False)
class ItemBags:
    """The bags of a catalogue's items.

    Attributes
    ----------
    catalogue
        The items.
    features
        Encoder of the declared features.
    weights
        float32 [rows of the vocabulary]: idf of each value among the items of train.
    bags
        float32 [items, rows of the vocabulary], unit rows; an item without known values has none.
    """

    catalogue: Catalogue
    features: ItemFeatures
    weights: Floats
    bags: sparse.csr_array

    @classmethod
    def fit(cls, catalogue: Catalogue, features: ItemFeatures, items: pa.Table) -> "ItemBags":
        """Fit the weights, and make the bags of the catalogue's items, one row of `items` each."""
        rows = features.encode_rows(items)
        plain = _rows(rows, np.ones(rows.shape, np.float32), features.rows.num_rows)
        of_train = catalogue.counts > 0
        with_value = np.diff(plain[of_train].tocsc().indptr)
        weights = idf(with_value, int(of_train.sum()))
        return cls(catalogue, features, weights, _bags(features, rows, weights))

    def add_items(self, items: pa.Table, item: str) -> "ItemBags":
        """The bags with those of new items behind; the weights do not change."""
        ids = items.column(item).combine_chunks().cast(self.catalogue.ids.type)
        new = _bags(self.features, self.features.encode_rows(items), self.weights)
        return replace(
            self,
            catalogue=self.catalogue.with_new(ids),
            bags=sparse.vstack([self.bags, new], format="csr"),
        )

    def remove_items(self, kept: Mask) -> "ItemBags":
        """The bags of the items of a mask [items]."""
        return replace(self, catalogue=self.catalogue.where(kept), bags=self.bags[kept])

    def write(self, folder: str) -> dict[str, Any]:
        """Write the files below a folder; returns the entries for `model.json`."""
        self.catalogue.write(storage.join(folder, _ITEMS))
        offsets = pa.array(self.bags.indptr.astype(np.int32))
        table = {
            name: pa.ListArray.from_arrays(offsets, pa.array(values))
            for name, values in (("rows", self.bags.indices), ("weights", self.bags.data))
        }
        write_parquet(storage.join(folder, _BAGS), pa.table(table))
        return {**write_features(folder, self.features), "idf": self.weights.tolist()}

    @classmethod
    def read(cls, folder: str, description: dict[str, Any]) -> "ItemBags":
        """What `write` wrote."""
        features = read_features(folder, description)
        table = read_parquet(storage.join(folder, _BAGS))
        rows, values = (table.column(name).combine_chunks() for name in ("rows", "weights"))
        parts = (part.to_numpy() for part in (values.flatten(), rows.flatten(), rows.offsets))
        shape = table.num_rows, features.rows.num_rows
        return cls(
            Catalogue.read(storage.join(folder, _ITEMS)),
            features,
            np.asarray(description["idf"], np.float32),
            sparse.csr_array(tuple(parts)[:3], shape=shape),
        )


def _bags(features: ItemFeatures, rows: Ints, weights: Floats) -> sparse.csr_array:
    bags = _rows(rows, weights[rows], features.rows.num_rows)
    return _unit_rows(bags)


def _unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """The rows of a matrix with length 1; empty rows stay empty."""
    lengths = np.sqrt(matrix.multiply(matrix).sum(axis=1))
    scales = np.repeat(1 / np.where(lengths > 0, lengths, 1), np.diff(matrix.indptr))
    data = (matrix.data * scales).astype(np.float32)
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


class ContentSearcher(Searcher):
    """Finds the items whose bags are most like those of the last items of the history.

    The score is the cosine of the item's bag and the sum of the bags of the last `max_history`
    items. A query without an item that has a bag is not answered.
    """

    def __init__(self, bags: ItemBags, history: str, max_history: int) -> None:
        self.bags, self.history, self.max_history = bags, history, max_history
        self.catalogue = bags.catalogue

    @classmethod
    def restore(cls, folder: str, description: dict[str, Any]) -> "ContentSearcher":
        params = description["params"]
        bags = ItemBags.read(folder, description)
        return cls(bags, params["history_col"], params["max_history"])

    def search(
        self, batch: pa.RecordBatch, k: int, seen: Pairs | None, allowed: Mask | None
    ) -> tuple[Floats, Ints]:
        profiles = self._profiles(batch)
        by_value = self.bags.bags.T.tocsr()

        def scores(start: int, stop: int) -> npt.NDArray[np.float32]:
            found: npt.NDArray[np.float32] = (profiles[start:stop] @ by_value).toarray()
            return found

        return best_of(scores, batch.num_rows, k, self.catalogue.order, seen, allowed)

    def answers(self, batch: pa.RecordBatch) -> Mask:
        return np.diff(self._profiles(batch).indptr) > 0

    def _profiles(self, batch: pa.RecordBatch) -> sparse.csr_array:
        """Unit sums of the bags of the last items, float32 [rows, rows of the vocabulary]."""
        rows, items = self.history_items(batch, self.history)
        ends = np.searchsorted(rows, np.arange(batch.num_rows + 1))
        age = ends[rows + 1] - 1 - np.arange(len(rows))
        late = age < self.max_history
        shape = batch.num_rows, len(self.catalogue)
        ones = np.ones(int(late.sum()), np.float32)
        read = sparse.csr_array((ones, (rows[late], items[late])), shape=shape)
        return _unit_rows(read @ self.bags.bags)

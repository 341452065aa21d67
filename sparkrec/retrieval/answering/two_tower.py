"""Answering with a network: query features to vectors, vectors to items."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sparkrec.columns import Columns
from sparkrec.config.load import from_json
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.history_columns import HistoryColumns
from sparkrec.encoding.sides import ItemEncoder, QueryEncoder
from sparkrec.io import storage
from sparkrec.io.tensors import read_tensors, write_tensors
from sparkrec.item_index import FIRST_ITEM
from sparkrec.models.two_tower import TowerInput
from sparkrec.retrieval.answering.network import NetworkSpec, TrainedNetwork
from sparkrec.retrieval.search.index import VectorIndex
from sparkrec.retrieval.search.searcher import Mask, Pairs, Searcher
from sparkrec.retrieval.search.settings import Retrieval
from sparkrec.retrieval.search.topk import Floats, Ints

_WEIGHTS, _VOCABULARY = "weights.safetensors", "vocabulary.safetensors"
_VECTORS, _INDEX = "vectors.safetensors", "index.faiss"
ITEMS_FILE = "items.parquet"
_CONTENT = "content.safetensors"
_SIDES = ("user", "item")


@dataclass(frozen=True, eq=False)
class TwoTowerParts:
    """All parts of a trained two-tower model, as stored in its folder."""

    network: TrainedNetwork
    catalogue: Catalogue
    user_encoder: QueryEncoder
    item_encoder: ItemEncoder
    index: VectorIndex

    @property
    def item_columns(self) -> tuple[str, ...]:
        """Columns of the items' table that the model reads; none if it knows items by id alone."""
        features = self.item_encoder.features.declared.features
        return tuple(dict.fromkeys(column for f in features for column in f.columns))

    def add_items(self, items: pa.Table, item: str, score: float = 0.0) -> "TwoTowerParts":
        """The parts with items that training never saw, which get vectors from their content.

        Parameters
        ----------
        items
            The column `item` with new ids, each once, and `item_columns`.
        score
            Added to all scores of these items; the network must have a bias of items.

        Notes
        -----
        The vectors of the other items do not change, and an approximate index is not trained again.
        """
        ids = items.column(item).combine_chunks().cast(self.catalogue.ids.type)
        catalogue = self.catalogue.with_new(ids)
        network, encoder = self.network, self.item_encoder.features
        if self.item_encoder.reads_content:
            added = encoder.encode(items).arrays()
            content = {
                name: torch.cat([known, torch.from_numpy(added[name])])
                for name, known in network.content.items()
            }
            network = TrainedNetwork(network.spec, network.weights, content)
            rows = np.arange(len(self.catalogue), len(catalogue))[:, None] + FIRST_ITEM
        else:
            rows = encoder.encode_rows(items)
        vectors = network.item_vectors(rows)
        if score:
            assert network.module.has_bias
            vectors[:, -1] += score
        index = self.index.with_vectors(vectors, catalogue.order)
        return self._with(catalogue, network, index)

    def remove_items(self, kept: Mask) -> "TwoTowerParts":
        """The parts with the items of a mask [items] alone; the index is made anew."""
        catalogue, network = self.catalogue.where(kept), self.network
        if self.item_encoder.dense:
            by_index = torch.from_numpy(np.concatenate([np.ones(FIRST_ITEM, bool), kept]))
            network = network.where(by_index)
        vectors = np.ascontiguousarray(self.index.vectors[kept])
        index = VectorIndex.build(vectors, self.index.settings, catalogue.order)
        return self._with(catalogue, network, index)

    def _with(
        self, catalogue: Catalogue, network: TrainedNetwork, index: VectorIndex
    ) -> "TwoTowerParts":
        users = replace(self.user_encoder, catalogue=catalogue)
        items = replace(self.item_encoder, catalogue=catalogue)
        return TwoTowerParts(network, catalogue, users, items, index)

    def write(self, folder: str) -> dict[str, Any]:
        """Write the files below a folder; returns the entries for `model.json`."""
        vocabulary = {
            f"{side}.{name}": torch.from_numpy(values.copy())
            for side, encoder in (
                ("user", self.user_encoder.features),
                ("item", self.item_encoder.features),
            )
            for name, values in encoder.arrays().items()
        }
        write_tensors(storage.join(folder, _VOCABULARY), vocabulary)
        write_trained(folder, self.network.weights, self.index)
        if self.network.content:
            write_tensors(storage.join(folder, _CONTENT), self.network.content)
        self.catalogue.write(storage.join(folder, ITEMS_FILE))
        return {
            "network": self.network.spec.network,
            "config": dict(self.network.spec.config),
            "shapes": {side: asdict(getattr(self.network.spec, side)) for side in _SIDES},
            "has_content": bool(self.network.content),
            "user": self.user_encoder.to_json(),
            "item": self.item_encoder.to_json(),
            "index": asdict(self.index.settings),
        }

    @classmethod
    def read(cls, folder: str, description: dict[str, Any]) -> "TwoTowerParts":
        """The parts that `write` wrote."""
        arrays = read_tensors(storage.join(folder, _VOCABULARY))
        vocabulary = {
            side: {
                name.removeprefix(f"{side}."): values.numpy()
                for name, values in arrays.items()
                if name.startswith(f"{side}.")
            }
            for side in _SIDES
        }
        catalogue = Catalogue.read(storage.join(folder, ITEMS_FILE))
        users = QueryEncoder.restore(description["user"], vocabulary["user"], catalogue)
        items = ItemEncoder.restore(description["item"], vocabulary["item"], catalogue)
        where = f"{folder}/model.json"
        shapes = {
            side: from_json(TowerInput, description["shapes"][side], where) for side in _SIDES
        }
        spec = NetworkSpec(description["network"], description["config"], **shapes)
        index = VectorIndex.from_bytes(
            storage.read_bytes(storage.join(folder, _INDEX)),
            from_json(Retrieval, description["index"], where),
            catalogue.order,
        )
        weights = read_tensors(storage.join(folder, _WEIGHTS))
        content = read_tensors(storage.join(folder, _CONTENT)) if description["has_content"] else {}
        trained = TrainedNetwork(spec, weights, content)
        return cls(trained, catalogue, users, items, index)


def write_trained(folder: str, weights: Mapping[str, Tensor], index: VectorIndex) -> None:
    """Write what training changes, the weights and the index, below a model's folder."""
    write_tensors(storage.join(folder, _WEIGHTS), weights)
    vectors = {"items": torch.from_numpy(np.ascontiguousarray(index.vectors))}
    write_tensors(storage.join(folder, _VECTORS), vectors)
    storage.write_bytes(storage.join(folder, _INDEX), index.to_bytes())


class TwoTowerSearcher(Searcher):
    """Encodes the user's side of queries and finds the nearest items."""

    def __init__(self, parts: TwoTowerParts, history_columns: HistoryColumns) -> None:
        self.network = parts.network
        self.catalogue = parts.catalogue
        self.user_encoder = parts.user_encoder
        self.index = parts.index
        self.history_columns = history_columns
        # The batch that was encoded last: `search` and `answers` both ask for it.
        self._encoded: tuple[pa.RecordBatch, Ints] | None = None

    @classmethod
    def restore(cls, folder: str, description: dict[str, Any]) -> "TwoTowerSearcher":
        parts, params = TwoTowerParts.read(folder, description), description["params"]
        roles = ("user", "item", "timestamp", "position")
        columns = Columns(**{role: params[f"{role}_col"] for role in roles})
        return cls(parts, history_columns(parts, columns, params["history_col"]))

    def __getstate__(self) -> dict[str, Any]:
        index = (self.index.to_bytes(), self.index.settings)
        return super().__getstate__() | {"index": index, "_encoded": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        content, settings = state["index"]
        self.__dict__ = state
        self.index = VectorIndex.from_bytes(content, settings, self.catalogue.order)

    def use_one_thread(self) -> None:
        torch.set_num_threads(1)

    def prepare(self, queries: pa.Table) -> pa.Table:
        present = self.history_columns.given_by(queries.column_names)
        for name in self.user_encoder.schema.used_columns:
            if name not in present:  # nothing is known of it
                queries = queries.append_column(name, pa.nulls(queries.num_rows, pa.string()))
        return queries

    def search(
        self, batch: pa.RecordBatch, k: int, seen: Pairs | None, allowed: Mask | None
    ) -> tuple[Floats, Ints]:
        vectors = self.network.user_vectors(self._encode(batch))
        return self.index.search(vectors, k, seen, allowed)

    def answers(self, batch: pa.RecordBatch) -> Mask:
        encoded = self._encode(batch)
        if self.network.spec.reads.whole_history:
            encoded = encoded[:, : self.user_encoder.length]
        return np.any(encoded >= FIRST_ITEM, axis=1)

    def _encode(self, batch: pa.RecordBatch) -> Ints:
        if self._encoded is None or self._encoded[0] is not batch:
            complete = self.history_columns.add(batch, self.catalogue)
            self._encoded = batch, self.user_encoder.encode(complete)
        return self._encoded[1]


def history_columns(parts: TwoTowerParts, columns: Columns, history: str) -> HistoryColumns:
    """Columns made of a query's history; networks that read whole histories never take a shorter
    list that the queries have."""
    whole = parts.network.spec.reads.whole_history
    return HistoryColumns.read_by(parts.user_encoder.schema, columns, history, whole)

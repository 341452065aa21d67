"""Answering with a network: query features to vectors, vectors to items."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sparkrec.columns import Columns
from sparkrec.config.load import from_json
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.history_columns import HistoryColumns
from sparkrec.encoding.sides import ItemEncoder, QueryEncoder
from sparkrec.io import storage
from sparkrec.io.tensors import read_tensors, write_tensors
from sparkrec.item_index import FIRST_ITEM
from sparkrec.retrieval.answering.network import NetworkSpec, TrainedNetwork
from sparkrec.retrieval.search.index import VectorIndex
from sparkrec.retrieval.search.searcher import Mask, Pairs, Searcher
from sparkrec.retrieval.search.settings import Retrieval
from sparkrec.retrieval.search.topk import Floats, Ints

_WEIGHTS, _VOCABULARY = "weights.safetensors", "vocabulary.safetensors"
_VECTORS, _INDEX, _ITEMS = "vectors.safetensors", "index.faiss", "items.parquet"


@dataclass(frozen=True, eq=False)
class TwoTowerParts:
    """All parts of a trained two-tower model, as stored in its folder."""

    network: TrainedNetwork
    catalogue: Catalogue
    user_encoder: QueryEncoder
    item_encoder: ItemEncoder
    index: VectorIndex

    def write(self, folder: str) -> dict[str, Any]:
        """Write the files below a folder; returns the entries for `model.json`."""
        hashes = {
            f"{side}.hashes": torch.from_numpy(encoder.arrays()["hashes"].copy())
            for side, encoder in (
                ("user", self.user_encoder.features),
                ("item", self.item_encoder.features),
            )
        }
        write_tensors(storage.join(folder, _VOCABULARY), hashes)
        write_tensors(storage.join(folder, _WEIGHTS), self.network.weights)
        vectors = {"items": torch.from_numpy(np.ascontiguousarray(self.index.vectors))}
        write_tensors(storage.join(folder, _VECTORS), vectors)
        storage.write_bytes(storage.join(folder, _INDEX), self.index.to_bytes())
        self.catalogue.write(storage.join(folder, _ITEMS))
        return {
            "network": self.network.spec.network,
            "config": dict(self.network.spec.config),
            "user": self.user_encoder.to_json(),
            "item": self.item_encoder.to_json(),
            "index": asdict(self.index.settings),
        }

    @classmethod
    def read(cls, folder: str, description: dict[str, Any]) -> "TwoTowerParts":
        """The parts that `write` wrote."""
        arrays = read_tensors(storage.join(folder, _VOCABULARY))
        hashes = {side: arrays[f"{side}.hashes"].numpy() for side in ("user", "item")}
        catalogue = Catalogue.read(storage.join(folder, _ITEMS))
        users = QueryEncoder.restore(description["user"], hashes["user"], catalogue)
        items = ItemEncoder.restore(description["item"], hashes["item"], catalogue)
        spec = NetworkSpec(
            description["network"], description["config"], users.tower_input, items.tower_input
        )
        index = VectorIndex.from_bytes(
            storage.read_bytes(storage.join(folder, _INDEX)),
            from_json(Retrieval, description["index"], f"{folder}/model.json"),
            catalogue.order,
        )
        weights = read_tensors(storage.join(folder, _WEIGHTS))
        return cls(TrainedNetwork(spec, weights), catalogue, users, items, index)


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
        return np.any(self._encode(batch) >= FIRST_ITEM, axis=1)

    def _encode(self, batch: pa.RecordBatch) -> Ints:
        if self._encoded is None or self._encoded[0] is not batch:
            complete = self.history_columns.add(batch, self.catalogue)
            self._encoded = batch, self.user_encoder.encode(complete)
        return self._encoded[1]


def history_columns(parts: TwoTowerParts, columns: Columns, history: str) -> HistoryColumns:
    """Columns made of a query's history; networks that read whole histories never take a shorter
    list that the queries have."""
    whole = not parts.network.spec.reads.user_features
    return HistoryColumns.read_by(parts.user_encoder.schema, columns, history, whole)

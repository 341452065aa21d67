"""A trained two-tower model: its folder on disk, and the part of it that executors run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pyspark.sql import DataFrame
from torch import Tensor, nn

from sparkrec.config import load as config
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.queries import FromHistory, query_features
from sparkrec.encoding.sides import ItemEncoder, QueryEncoder
from sparkrec.io import storage
from sparkrec.models import model_classes
from sparkrec.models.sequence import SequenceNetwork
from sparkrec.models.two_tower import TowerInput
from sparkrec.retrieval.base import RetrievalModel
from sparkrec.retrieval.search.index import VectorIndex
from sparkrec.retrieval.search.settings import Retrieval
from sparkrec.retrieval.search.topk import Floats, Ints
from sparkrec.training.checkpoint import read_tensors, write_tensors

_BLOCK = 4096
# Every step of a history is a vector while it is read.
_HISTORIES = 256
_USED_ROW = 2


class Network:
    """A network with the encoder of its user side: everything that turns a query into a vector."""

    def __init__(
        self,
        model: str,
        model_config: Mapping[str, Any],
        user: TowerInput,
        item: TowerInput,
        weights: Mapping[str, Tensor],
    ) -> None:
        self.model, self.model_config = model, dict(model_config)
        self.user, self.item = user, item
        self.weights = dict(weights)
        self._module: nn.Module | None = None

    def __getstate__(self) -> dict[str, Any]:
        plain = {name: value.numpy() for name, value in self.weights.items()}
        return self.__dict__ | {"weights": plain, "_module": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self.weights = {name: torch.from_numpy(v) for name, v in state["weights"].items()}

    @property
    def module(self) -> nn.Module:
        """The Torch module, in evaluation mode."""
        if self._module is None:
            network_class, config_class = model_classes(self.model)
            model_config = config.from_json(config_class, self.model_config, "model.json")
            self._module = network_class(model_config, self.user, self.item)
            self._module.load_state_dict(self.weights)
            self._module.eval()
        return self._module

    @torch.no_grad()
    def user_vectors(self, features: Ints) -> Floats:
        """User-side rows [queries, width] to float32 [queries, dim]."""
        if not isinstance(self.module, SequenceNetwork):
            return _blocks(self.module.encode_users, features)
        # Histories of like length together, for a block takes as many steps as its longest.
        order = np.argsort((features != 0).sum(axis=1), kind="stable")
        vectors = _blocks(self.module.encode_users, features[order], _HISTORIES)
        back = np.empty_like(vectors)
        back[order] = vectors
        return back

    @torch.no_grad()
    def item_vectors(self, features: Ints) -> Floats:
        """Item-side rows [items, width] to float32 [items, dim]."""
        return _blocks(self.module.encode_items, features)


def _blocks(encode: Any, features: Ints, size: int = _BLOCK) -> Floats:
    parts = [
        encode(torch.from_numpy(features[start : start + size])).numpy()
        for start in range(0, max(len(features), 1), size)
    ]
    return np.concatenate(parts)


class TwoTowerModel(RetrievalModel):
    """A trained two-tower retriever; see the estimator of its name for the params."""

    model_name: str

    def __init__(
        self,
        network: Network,
        catalogue: Catalogue,
        user_encoder: QueryEncoder,
        item_encoder: ItemEncoder,
        index: VectorIndex,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.catalogue = catalogue
        self.user_encoder = user_encoder
        self.item_encoder = item_encoder
        self.index = index
        self.about = dict(about or {})

    @classmethod
    def network_class(cls) -> type[nn.Module]:
        """The Torch module's class."""
        return model_classes(cls.model_name)[0]

    @property
    def seconds(self) -> dict[str, float]:
        return dict(self.about.get("seconds", {}))

    @property
    def item_vectors(self) -> Floats:
        """float32 [items, dim], in the catalogue's order."""
        return self.index.vectors

    def searcher(self) -> "TwoTowerSearcher":
        return TwoTowerSearcher(
            self.network, self.catalogue, self.user_encoder, self.index, self._from_history()
        )

    @property
    def wanted_columns(self) -> tuple[str, ...]:
        return self.user_encoder.schema.used_columns

    def prepare_queries(self, queries: DataFrame) -> DataFrame:
        """Join the features of `users`."""
        schema, user = self.user_encoder.schema, self.columns.user
        return query_features(
            queries, self.users, schema, user, self._from_history(), "the queries"
        )

    def _from_history(self) -> FromHistory:
        whole = issubclass(self.network_class(), SequenceNetwork)
        schema, history = self.user_encoder.schema, self.get("history_col")
        return FromHistory.wanted(schema, self.columns, history, whole)

    def write_parts(self, folder: str) -> dict[str, Any]:
        hashes = {
            f"{side}.hashes": torch.from_numpy(encoder.arrays()["hashes"].copy())
            for side, encoder in (
                ("user", self.user_encoder.features),
                ("item", self.item_encoder.features),
            )
        }
        write_tensors(storage.join(folder, "vocabulary.safetensors"), hashes)
        write_tensors(storage.join(folder, "weights.safetensors"), self.network.weights)
        vectors = {"items": torch.from_numpy(np.ascontiguousarray(self.item_vectors))}
        write_tensors(storage.join(folder, "vectors.safetensors"), vectors)
        storage.write_bytes(storage.join(folder, "index.faiss"), self.index.to_bytes())
        self.catalogue.write(storage.join(folder, "items.parquet"))
        return {
            "model": self.network.model,
            "model_config": self.network.model_config,
            "user": {**self.user_encoder.to_json()},
            "item": {**self.item_encoder.to_json()},
            "index": vars(self.index.settings),
            "about": self.about,
        }

    @classmethod
    def read_parts(cls, folder: str, description: dict[str, Any]) -> "TwoTowerModel":
        arrays = read_tensors(storage.join(folder, "vocabulary.safetensors"))
        hashes = {side: arrays[f"{side}.hashes"].numpy() for side in ("user", "item")}
        catalogue = Catalogue.read(storage.join(folder, "items.parquet"))
        users = QueryEncoder.restore(description["user"], hashes["user"], catalogue)
        items = ItemEncoder.restore(description["item"], hashes["item"], catalogue)
        network = Network(
            description["model"],
            description["model_config"],
            users.tower_input,
            items.tower_input,
            read_tensors(storage.join(folder, "weights.safetensors")),
        )
        index = VectorIndex.from_bytes(
            storage.read_bytes(storage.join(folder, "index.faiss")),
            Retrieval(**description["index"]),
            catalogue.order,
        )
        return cls(network, catalogue, users, items, index, description["about"])


class TwoTowerSearcher:
    """The executors' part: query features to vectors, vectors to items."""

    def __init__(
        self,
        network: Network,
        catalogue: Catalogue,
        user_encoder: QueryEncoder,
        index: VectorIndex,
        from_history: FromHistory,
    ) -> None:
        self.from_history = from_history
        self.network = network
        self.catalogue = catalogue
        self.user_encoder = user_encoder
        self.index = index
        # The batch that was encoded last, which is asked for twice.
        self._encoded: tuple[pa.RecordBatch, Ints] | None = None

    def __getstate__(self) -> dict[str, Any]:
        index = (self.index.to_bytes(), self.index.settings)
        return self.__dict__ | {"index": index, "_encoded": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        content, settings = state["index"]
        self.__dict__ = state
        self.index = VectorIndex.from_bytes(content, settings, self.catalogue.order)
        # One Python worker a core already; threads of their own would only get in the way.
        torch.set_num_threads(1)

    def search(
        self,
        batch: pa.RecordBatch,
        k: int,
        seen: tuple[Ints, Ints] | None,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> tuple[Floats, Ints]:
        vectors = self.network.user_vectors(self._encode(batch))
        return self.index.search(vectors, k, seen, allowed)

    def answers(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        return np.any(self._encode(batch) >= _USED_ROW, axis=1)

    def _encode(self, batch: pa.RecordBatch) -> Ints:
        if self._encoded is None or self._encoded[0] is not batch:
            complete = self.from_history.add(batch, self.catalogue)
            self._encoded = batch, self.user_encoder.encode(complete)
        return self._encoded[1]

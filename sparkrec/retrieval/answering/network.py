"""A trained network: its class, settings, shapes and weights, and the vectors that it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparkrec.config.load import from_json
from sparkrec.models.registry import find_class
from sparkrec.models.sequence import SequenceNetwork
from sparkrec.models.two_tower import Reads, TowerInput, TwoTowerNetwork, require_network
from sparkrec.nn.items import ItemTable
from sparkrec.retrieval.search.topk import Floats, Ints

# Batch sizes for encoding. Histories take smaller batches, because every step holds a vector.
_ROWS, _HISTORIES = 4096, 256


@dataclass(frozen=True)
class NetworkSpec:
    """Which network, with which settings, for inputs of which shapes; plain values alone.

    Attributes
    ----------
    network
        `module:Class` of the network.
    config
        Its settings as JSON.
    user, item
        Shapes of both sides' features.
    """

    network: str
    config: Mapping[str, Any]
    user: TowerInput
    item: TowerInput

    @property
    def network_class(self) -> type[TwoTowerNetwork]:
        """The class, imported."""
        return require_network(find_class(self.network), self.network)

    @property
    def settings(self) -> Any:
        """The settings as the network's `Config`."""
        return from_json(self.network_class.Config, self.config, "model.json")

    @property
    def reads(self) -> Reads:
        """What the network reads."""
        return self.network_class.reads(self.settings)

    def build(self, content: Mapping[str, Tensor]) -> TwoTowerNetwork:
        """The network with first weights drawn from Torch's random state.

        `content` is that of the items, for `TwoTowerNetwork.set_content`.
        """
        # Every network's constructor takes these; the base class leaves them to its subclasses.
        network: Any = self.network_class
        built: TwoTowerNetwork = network(self.settings, self.user, self.item)
        if content:
            built.set_content(content)
        return built


class TrainedNetwork:
    """A network with its weights, and the content of the items if it reads that.

    Can be pickled without Torch tensors in shared memory.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        weights: Mapping[str, Tensor],
        content: Mapping[str, Tensor],
    ) -> None:
        self.spec = spec
        self.weights, self.content = dict(weights), dict(content)
        self._module: TwoTowerNetwork | None = None

    def __getstate__(self) -> dict[str, Any]:
        plain = {
            part: {name: value.numpy() for name, value in getattr(self, part).items()}
            for part in ("weights", "content")
        }
        return self.__dict__ | plain | {"_module": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        for part in ("weights", "content"):
            tensors = {name: torch.from_numpy(value) for name, value in state[part].items()}
            setattr(self, part, tensors)

    @property
    def module(self) -> TwoTowerNetwork:
        """The Torch module, in evaluation mode."""
        if self._module is None:
            self._module = self.spec.build(self.content)
            self._module.load_state_dict(self.weights)
            self._module.eval()
        return self._module

    def where(self, kept: Tensor) -> "TrainedNetwork":
        """The network with the items of a mask by dense index [items] alone."""
        weights, items = dict(self.weights), self.spec.item
        for name, module in self.module.named_modules():
            if isinstance(module, ItemTable):
                # Items that were added after training have no row.
                known = kept[: len(module.weight)]
                weights[f"{name}.weight"] = module.weight.detach()[known]
                items = replace(items, num_items=int(known.sum()))
        content = {name: values[kept] for name, values in self.content.items()}
        return TrainedNetwork(replace(self.spec, item=items), weights, content)

    @torch.no_grad()
    def user_vectors(self, features: Ints) -> Floats:
        """User-side rows [queries, width] to float32 [queries, dim]."""
        if not isinstance(self.module, SequenceNetwork):
            return _in_parts(self.module.encode_users, features, _ROWS)
        # Sorted by length: a batch takes as many steps as its longest history.
        order = np.argsort((features != 0).sum(axis=1), kind="stable")
        vectors = _in_parts(self.module.encode_users, features[order], _HISTORIES)
        back = np.empty_like(vectors)
        back[order] = vectors
        return back

    @torch.no_grad()
    def item_vectors(self, features: Ints) -> Floats:
        """Item-side rows [items, width] to float32 [items, dim]."""
        return _in_parts(self.module.encode_items, features, _ROWS)


def _in_parts(encode: Any, features: Ints, size: int) -> Floats:
    parts = [
        encode(torch.from_numpy(features[start : start + size])).numpy()
        for start in range(0, max(len(features), 1), size)
    ]
    return np.concatenate(parts)

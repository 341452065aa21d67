"""The input of a training process."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparkrec.models.two_tower import TwoTowerNetwork
from sparkrec.retrieval.answering.network import NetworkSpec
from sparkrec.training.epoch_models import EpochModels
from sparkrec.training.settings import Loss, Training

# Keys that may differ between a checkpoint and the run that resumes it.
_FREE_TO_CHANGE = (
    "epochs",
    "workers",
    "resume",
    "print_interval",
    "save_checkpoint_interval",
    "save_inference_interval",
    "cache_mb",
)

# The content of items in `tensors_path`; the names are those of `nn.items.ItemContent.set_content`.
_CONTENT = ("item_rows", "item_weights", "item_floats")


@dataclass(frozen=True)
class TrainingSpec:
    """Everything a training process needs, as plain values and paths that it can reach.

    Attributes
    ----------
    network
        Class, settings and input shapes of the network.
    fields
        Tensors of a training row and their widths (see `feed.feed`).
    fit_path, all_path
        Encoded rows without the validation rows, and with them.
    tensors_path
        safetensors with `item_features` [items, item width], `item_counts` [items] (training rows)
        for in-batch and sampled negatives, the content of the items if the network reads it, and
        what `Validation` reads.
    initial_weights
        safetensors to start from, or None.
    checkpoint_path
        Folder of checkpoints and of the final weights.
    fingerprint
        Content hashes of the inputs that the rows are made from.
    epoch_models
        Where models of single epochs are written; None if none are.
    """

    network: NetworkSpec
    loss: Loss
    training: Training
    seed: int
    fields: Mapping[str, int]
    fit_path: str
    all_path: str
    tensors_path: str
    initial_weights: str | None
    checkpoint_path: str
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    epoch_models: EpochModels | None = None

    def identity(self) -> dict[str, Any]:
        """The values that must be equal in a checkpoint and in the run that resumes it."""
        training = asdict(self.training)
        return {
            "model": self.network.network,
            "model_config": dict(self.network.config),
            "user": asdict(self.network.user),
            "item": asdict(self.network.item),
            "loss": asdict(self.loss),
            "seed": self.seed,
            "data": dict(self.fingerprint),
            **{k: v for k, v in training.items() if k not in _FREE_TO_CHANGE},
        }

    def build(self, tensors: Mapping[str, Tensor]) -> TwoTowerNetwork:
        """The network with random initial weights, drawn with the seed.

        `tensors` are those of `tensors_path`, or none where only the weights are asked for.
        """
        torch.manual_seed(self.seed)
        return self.network.build(self.content(tensors))

    @staticmethod
    def content(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The content of the items among the tensors of `tensors_path`."""
        return {name: tensors[name] for name in _CONTENT if name in tensors}

"""What a training process is given."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from sparkrec.config import load as config
from sparkrec.models import model_classes
from sparkrec.models.two_tower import TowerInput
from sparkrec.training.settings import Loss, Training

# Changing these does not make another model of the same checkpoint.
_FREE_TO_CHANGE = (
    "epochs",
    "workers",
    "resume",
    "print_interval",
    "save_checkpoint_interval",
    "cache_mb",
)


@dataclass(frozen=True)
class TrainingTask:
    """Everything a training process needs, as plain values and paths that it can reach.

    Attributes
    ----------
    model, model_config
        Registry name of the network, and its config as JSON.
    user, item
        Shapes of both sides' features.
    fields
        Tensors of a training row and their widths (see `feed.feed`).
    fit_path, all_path
        Encoded rows without the validation rows, and with them.
    tensors_path
        safetensors with `item_features` [items, item width], `item_counts` [items] (training rows)
        for in-batch and sampled negatives, and what `Validation` reads.
    initial_weights
        safetensors to start from, or None.
    checkpoint_path
        Folder of checkpoints and of the final weights.
    fingerprint
        What the rows are made from.
    """

    model: str
    model_config: Mapping[str, Any]
    user: TowerInput
    item: TowerInput
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

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with the run that resumes it."""
        training = asdict(self.training)
        return {
            "model": self.model,
            "model_config": dict(self.model_config),
            "user": asdict(self.user),
            "item": asdict(self.item),
            "loss": asdict(self.loss),
            "seed": self.seed,
            "data": dict(self.fingerprint),
            **{k: v for k, v in training.items() if k not in _FREE_TO_CHANGE},
        }

    def build(self) -> nn.Module:
        """The network with its first weights: the seed's, or those of `initial_weights`."""
        network_class, config_class = model_classes(self.model)
        torch.manual_seed(self.seed)
        model_config = config.from_json(config_class, self.model_config, "model.json")
        network: nn.Module = network_class(model_config, self.user, self.item)
        return network

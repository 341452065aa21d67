"""What a training process is given, and the network with its loss as one Torch module."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec import config
from sparkrec.models import model_classes
from sparkrec.models.two_tower import TowerInput
from sparkrec.nn.losses import bce_loss, labelled_bce_loss
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
        Tensors of a training row and their widths (see `training.feed`).
    fit_path, all_path
        Encoded rows without the validation rows, and with them.
    tensors_path
        safetensors with `item_features` [items, item width], and, for validation, `candidates`
        (dense items), `queries` [rows, user width], `targets` [rows] (dense items), `seen` and
        `seen_offsets` (dense items seen by each query, ragged).
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


class TwoTowerLoss(nn.Module):
    """A two-tower network and its loss on a batch of positives with sampled negatives."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.temperature = loss.temperature

    def forward(
        self, batch: Mapping[str, Tensor], item_features: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of a batch, and its detached scores and labels (flat, padding left out).

        `batch` holds `user` [batch, width], `item` [batch], and either `negatives`
        [batch, negatives] (0 where fewer could be drawn) or `label` [batch].
        """
        items = batch["item"][:, None]
        if "negatives" in batch:
            items = torch.cat([items, batch["negatives"]], dim=1)
        scores = self._scores(batch["user"], items, item_features)
        if "negatives" not in batch:
            labels = batch["label"].to(scores.dtype)
            flat = scores[:, 0]
            return labelled_bce_loss(flat, labels), flat.detach(), labels
        mask = batch["negatives"] != 0
        loss = bce_loss(scores[:, 0], scores[:, 1:], mask)
        with torch.no_grad():
            negative = scores[:, 1:][mask]
            flat = torch.cat([scores[:, 0], negative])
            labels = (torch.arange(len(flat), device=flat.device) < len(scores)).to(flat.dtype)
        return loss, flat, labels

    def _scores(self, users: Tensor, items: Tensor, item_features: Tensor) -> Tensor:
        """Scores of every row's items, [batch, items]. Towers run on distinct items once."""
        distinct, inverse = torch.unique(items, return_inverse=True)
        item_vectors = self.network.encode_items(item_features[distinct])  # type: ignore[operator]
        user_vectors = self.network.encode_users(users)  # type: ignore[operator]
        if len(distinct) <= _PRODUCT_BELOW * items.shape[1]:
            scores = (user_vectors @ item_vectors.T).gather(1, inverse)
        else:
            gathered = F.embedding(inverse, item_vectors)
            scores = (gathered @ user_vectors[:, :, None])[..., 0]
        return scores / self.temperature


# Gathering a vector for each of a row's items moves as many numbers as multiplying with about
# this many items at once costs; measured on 2 cores with vectors of 128.
_PRODUCT_BELOW = 40

"""What a two-tower network is trained for: the loss of a batch of positives and its negatives."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.nn import losses
from sparkrec.training.settings import Loss

# Gathering a vector for each of a row's items moves as many numbers as multiplying with about
# this many items at once costs; measured on 2 cores with vectors of 128.
_PRODUCT_BELOW = 40
# In-batch negatives of a row that its part of the AUC is measured on.
_AUC_NEGATIVES = 5

Scored = tuple[Tensor, Tensor, Tensor]


class TwoTowerLoss(nn.Module):
    """A two-tower network and its loss on a batch of positives with negatives.

    Parameters
    ----------
    network
        Encodes both sides (see `models.two_tower`).
    loss
        The conf's `loss:` block.
    item_features
        Table rows of every item by dense index, [items, item width].
    item_counts
        Training rows of every item by dense index, [items]; what in-batch negatives need.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        item_features: Tensor,
        item_counts: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.item_features = item_features
        self.item_counts = item_counts
        self._log_q: dict[int, Tensor] = {}

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of a batch, and detached scores and labels of pairs of it (flat) for the AUC.

        `batch` holds `user` [batch, width], `item` [batch], and, with `negatives: given`, either
        `negatives` [batch, negatives] (0 where fewer could be drawn) or `label` [batch].
        """
        if self.loss.negatives == "in_batch":
            return self._in_batch(batch)
        if "label" in batch:
            # The estimator lets labels through with bce alone.
            scores = self._scores(batch["user"], batch["item"][:, None])[:, 0]
            labels = batch["label"].to(scores.dtype)
            return losses.labelled_bce_loss(scores, labels), scores.detach(), labels
        items = torch.cat([batch["item"][:, None], batch["negatives"]], dim=1)
        scores = self._scores(batch["user"], items)
        positive, negative, mask = scores[:, 0], scores[:, 1:], batch["negatives"] != 0
        return self._loss_of(positive, negative, mask), *_pairs(positive, negative, mask)

    def _in_batch(self, batch: Mapping[str, Tensor]) -> Scored:
        """Every distinct item of the batch is a candidate for every row."""
        distinct, own = torch.unique(batch["item"], return_inverse=True)
        users = self.network.encode_users(batch["user"])  # type: ignore[operator]
        items = self.network.encode_items(self.item_features[distinct])  # type: ignore[operator]
        scores = users @ items.T / self.loss.temperature
        rows = torch.arange(len(own), device=own.device)
        others = own[(rows[:, None] + torch.arange(1, _AUC_NEGATIVES + 1).to(own)) % len(own)]
        pairs = _pairs(scores[rows, own], scores.gather(1, others), others != own[:, None])
        if self.loss.log_q and self.loss.name == "softmax":
            scores = scores - self._log_q_of(len(own), own.device)[distinct]
        mask = torch.ones_like(scores, dtype=torch.bool)
        mask[rows, own] = False
        return self._loss_of(scores[rows, own], scores, mask), *pairs

    def _loss_of(self, positive: Tensor, negative: Tensor, mask: Tensor) -> Tensor:
        settings = self.loss
        match settings.name:
            case "bpr_max" | "top1_max":
                function = getattr(losses, f"{settings.name}_loss")
                weight = settings.score_regularisation
                return function(positive, negative, mask, score_regularisation=weight)
            case "hinge":
                return losses.hinge_loss(positive, negative, mask, margin=settings.margin)
            case "ccl":
                weight = settings.negative_weight
                return losses.ccl_loss(
                    positive, negative, mask, margin=settings.margin, negative_weight=weight
                )
            case "gbce":
                # The first two rows of the table are no items.
                items = len(self.item_features) - 2
                beta = losses.gbce_beta(negative.shape[1], items, settings.calibration)
                return losses.gbce_loss(positive, negative, mask, beta=beta)
            case _:
                return getattr(losses, f"{settings.name}_loss")(positive, negative, mask)

    def _log_q_of(self, batch_size: int, device: torch.device) -> Tensor:
        if batch_size not in self._log_q:
            assert self.item_counts is not None, "in-batch negatives need the items' counts"
            self._log_q[batch_size] = losses.log_q_in_batch(self.item_counts, batch_size).to(device)
        return self._log_q[batch_size]

    def _scores(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores of every row's items, [batch, items]. Towers run on distinct items once."""
        distinct, inverse = torch.unique(items, return_inverse=True)
        features = self.item_features[distinct]
        item_vectors = self.network.encode_items(features)  # type: ignore[operator]
        user_vectors = self.network.encode_users(users)  # type: ignore[operator]
        if len(distinct) <= _PRODUCT_BELOW * items.shape[1]:
            scores = (user_vectors @ item_vectors.T).gather(1, inverse)
        else:
            gathered = F.embedding(inverse, item_vectors)
            scores = (gathered @ user_vectors[:, :, None])[..., 0]
        return scores / self.loss.temperature


def _pairs(positive: Tensor, negative: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Detached scores of positives and of negatives that count, flat, and their labels."""
    flat = torch.cat([positive, negative[mask]]).detach()
    return flat, (torch.arange(len(flat), device=flat.device) < len(positive)).to(flat.dtype)

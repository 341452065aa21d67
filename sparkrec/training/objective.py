"""What a network is trained for: the loss of a batch of positives against other items."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.models.sequence import SequenceNetwork
from sparkrec.nn import losses
from sparkrec.training.settings import Loss

# Gathering a vector for each of a row's items moves as many numbers as multiplying with about
# this many items at once costs; measured on 2 cores with vectors of 128.
_PRODUCT_BELOW = 40
# Positives of a batch that the AUC is measured on, and negatives of each, where candidates are
# shared.
_AUC_POSITIVES, _AUC_NEGATIVES = 2048, 5
# Steps whose samples are drawn together.
_STEPS_DRAWN = 64
_LOG_Q_KEPT = 16
# Padding and unknown, the first rows of tables by dense index, are no items.
_FIRST_ITEM = 2

Scored = tuple[Tensor, Tensor, Tensor]


class Objective(nn.Module):
    """A network and its loss on a batch.

    `forward(batch)` gives the loss, and detached scores and labels of pairs of the batch (flat),
    for the AUC; of a batch that is not `watched` there may be none. `positives` counts those seen
    since it was last set to 0.

    Parameters
    ----------
    network
        Encodes both sides (see `models.two_tower`).
    loss
        The conf's `loss:` block.
    item_features
        Table rows of every item by dense index, [items, item width].
    item_counts
        Training rows of every item by dense index, [items]; what in-batch and sampled negatives
        need.
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
        self.positives = 0
        self.watched = True
        self._log_q: dict[int, Tensor] = {}
        self._weights: Tensor | None = None
        self._drawn: list[Tensor] = []

    def begin_epoch(self) -> None:
        """Train, and forget what a resumed run would not have: draws ahead, and the counter."""
        self.train()
        self.positives = 0
        self._drawn = []

    def contrast(self, queries: Tensor, targets: Tensor) -> Scored:
        """Loss of query vectors [n, dim] whose positives are `targets` [n], against items that all
        of them share: the batch's own, sampled ones, or every item."""
        settings = self.loss
        queries = queries / settings.temperature
        if settings.negatives == "all" and settings.name == "softmax":
            items = self._encode(self.item_features[_FIRST_ITEM:])
            positives = targets - _FIRST_ITEM
            half = settings.half_precision
            loss = losses.full_softmax_loss(queries, items, positives, half)
            return loss, *self._pairs_of_others(queries, items, positives)
        candidates, draws = self._candidates(targets)
        scores = queries @ self._encode(self.item_features[candidates]).T
        # A positive that was not drawn is a candidate of its own row alone.
        place = torch.searchsorted(candidates, targets).clamp(max=len(candidates) - 1)
        drawn = candidates[place] == targets
        if bool(drawn.all()):
            positive = scores.gather(1, place[:, None])[:, 0]
        else:
            distinct, own = torch.unique(targets, return_inverse=True)
            vectors = F.embedding(own, self._encode(self.item_features[distinct]))
            positive = (queries * vectors).sum(dim=1)
        mask = candidates != targets[:, None]
        most, few = _AUC_POSITIVES if self.watched else 0, _AUC_NEGATIVES
        pairs = _pairs(positive[:most], scores[:most, :few], mask[:most, :few])
        if draws and settings.log_q and settings.name == "softmax":
            correction = self._log_q_of(draws)
            scores, positive = scores - correction[candidates], positive - correction[targets]
        return self._loss_of(positive, scores, mask), *pairs

    def _candidates(self, targets: Tensor) -> tuple[Tensor, int]:
        """Distinct items, ascending, and the draws that they come from: 0 for all of them."""
        match self.loss.negatives:
            case "in_batch":
                return torch.unique(targets), len(targets)
            case "sampled":
                return torch.unique(self._draw()), self.loss.samples
            case _:
                count = len(self.item_features)
                return torch.arange(_FIRST_ITEM, count, device=targets.device), 0

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
                items = len(self.item_features) - _FIRST_ITEM
                beta = losses.gbce_beta(negative.shape[1], items, settings.calibration)
                return losses.gbce_loss(positive, negative, mask, beta=beta)
            case _:
                return getattr(losses, f"{settings.name}_loss")(positive, negative, mask)

    def _draw(self) -> Tensor:
        """The samples of a step: drawn for many steps at once, since that costs hardly more."""
        if not self._drawn:
            count = self.loss.samples * _STEPS_DRAWN
            draws = torch.multinomial(self._draw_weights(), count, replacement=True)
            self._drawn = list(draws.split(self.loss.samples))
        return self._drawn.pop()

    def _draw_weights(self) -> Tensor:
        """What each item is drawn in proportion to: its count to the alpha; 0 without any."""
        if self._weights is None:
            assert self.item_counts is not None, "sampled negatives need the items' counts"
            counts = self.item_counts.double()
            weights = torch.where(counts > 0, counts**self.loss.alpha, 0.0)
            self._weights = weights.to(self.item_features.device)
        return self._weights

    def _log_q_of(self, draws: int) -> Tensor:
        if draws not in self._log_q:
            # A short last batch comes back every epoch, the counts of windows hardly ever do.
            if len(self._log_q) == _LOG_Q_KEPT:
                self._log_q.clear()
            assert self.item_counts is not None, "in-batch negatives need the items' counts"
            in_batch = self.loss.negatives == "in_batch"
            weights = self.item_counts if in_batch else self._draw_weights()
            self._log_q[draws] = losses.log_q(weights, draws).to(self.item_features.device)
        return self._log_q[draws]

    def _encode(self, features: Tensor) -> Tensor:
        vectors: Tensor = self.network.encode_items(features)  # type: ignore[operator]
        return vectors

    @torch.no_grad()
    def _pairs_of_others(
        self, queries: Tensor, items: Tensor, positives: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores of some queries' positives, and of the positives of others."""
        queries, own = queries[:_AUC_POSITIVES], positives[:_AUC_POSITIVES]
        rows = torch.arange(len(own), device=own.device)
        shift = torch.arange(1, _AUC_NEGATIVES + 1, device=own.device)
        others = own[(rows[:, None] + shift) % len(own)]
        chosen = F.embedding(torch.cat([own[:, None], others], dim=1), items)
        scores = (chosen @ queries[:, :, None])[..., 0]
        return _pairs(scores[:, 0], scores[:, 1:], others != own[:, None])


class TwoTowerLoss(Objective):
    """Training rows are contexts with the item that was taken.

    A batch holds `user` [batch, width], `item` [batch], and, with `negatives: given`, either
    `negatives` [batch, negatives] (0 where fewer could be drawn) or `label` [batch].
    """

    def forward(self, batch: Mapping[str, Tensor]) -> Scored:
        self.positives += len(batch["item"])
        if self.loss.negatives != "given":
            users = self.network.encode_users(batch["user"])  # type: ignore[operator]
            return self.contrast(users, batch["item"])
        if "label" in batch:
            # The estimator lets labels through with bce alone.
            scores = self._scores(batch["user"], batch["item"][:, None])[:, 0]
            labels = batch["label"].to(scores.dtype)
            return losses.labelled_bce_loss(scores, labels), scores.detach(), labels
        items = torch.cat([batch["item"][:, None], batch["negatives"]], dim=1)
        scores = self._scores(batch["user"], items)
        positive, negative, mask = scores[:, 0], scores[:, 1:], batch["negatives"] != 0
        return self._loss_of(positive, negative, mask), *_pairs(positive, negative, mask)

    def _scores(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores of every row's items, [batch, items]. Towers run on distinct items once."""
        distinct, inverse = torch.unique(items, return_inverse=True)
        item_vectors = self._encode(self.item_features[distinct])
        user_vectors = self.network.encode_users(users)  # type: ignore[operator]
        if len(distinct) <= _PRODUCT_BELOW * items.shape[1]:
            scores = (user_vectors @ item_vectors.T).gather(1, inverse)
        else:
            gathered = F.embedding(inverse, item_vectors)
            scores = (gathered @ user_vectors[:, :, None])[..., 0]
        return scores / self.loss.temperature


class SequenceLoss(Objective):
    """Training rows are windows of a user's items; every step is to find the item that follows.

    A batch holds `items` [batch, steps + 1], oldest first and 0 behind the last.
    """

    def forward(self, batch: Mapping[str, Tensor]) -> Scored:
        items = batch["items"]
        longest = int((items != 0).sum(dim=1).max())
        states = self.network.encode_steps(items[:, : longest - 1])  # type: ignore[operator]
        following = items[:, 1:longest]
        trained = following != 0
        self.positives += int(trained.sum())
        return self.contrast(states[trained], following[trained])


class SessionParallelLoss(Objective):
    """Training rows are steps of lanes (see `training.lanes`); states are carried from one to the
    next, gradients are not.

    A batch holds `input`, `target`, `starts` and `kept`, [lanes].
    """

    _states: list[Tensor] | None = None

    def begin_epoch(self) -> None:
        super().begin_epoch()
        self._states = None

    def forward(self, batch: Mapping[str, Tensor]) -> Scored:
        starts, network = batch["starts"], self.network
        if self._states is None:
            self._states = network.new_states(len(starts))  # type: ignore[operator]
        going_on = ~starts[:, None]
        states = [state[batch["kept"]] * going_on for state in self._states]
        vectors, after = network.step(batch["input"], states)  # type: ignore[operator]
        self._states = [state.detach() for state in after]
        self.positives += len(starts)
        return self.contrast(vectors, batch["target"])


def objective(
    network: nn.Module,
    loss: Loss,
    item_features: Tensor,
    item_counts: Tensor | None,
    session_parallel: bool = False,
) -> Objective:
    """The objective of a network's kind."""
    kind: type[Objective] = TwoTowerLoss
    if isinstance(network, SequenceNetwork):
        kind = SessionParallelLoss if session_parallel else SequenceLoss
    return kind(network, loss, item_features, item_counts)


def _pairs(positive: Tensor, negative: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Detached scores of positives and of negatives that count, flat, and their labels."""
    flat = torch.cat([positive, negative[mask]]).detach()
    return flat, (torch.arange(len(flat), device=flat.device) < len(positive)).to(flat.dtype)

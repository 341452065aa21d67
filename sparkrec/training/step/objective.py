"""Objectives: the loss of a batch of positives against other items."""

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.item_index import FIRST_ITEM
from sparkrec.nn import losses
from sparkrec.training.settings import Loss
from sparkrec.training.step.alias import AliasTable, alias_table, draw

# To score the items of a row, either their vectors are gathered, or the row is multiplied with all
# distinct items. The product is faster if there are fewer distinct items than this number times the
# items of a row; measured on 2 cores with vectors of 128 dimensions.
_PRODUCT_BELOW = 40
# With shared candidates, the AUC is measured on this number of positives of a batch, each with this
# number of negatives.
_AUC_POSITIVES, _AUC_NEGATIVES = 2048, 5
# Number of steps whose samples are drawn together.
_STEPS_DRAWN = 64

Scored = tuple[Tensor, Tensor, Tensor]


class Objective(nn.Module):
    """A network and its loss on a batch.

    `forward(batch)` returns the loss, and detached scores and labels of pairs of the batch (flat),
    for the AUC. The scores may be empty if the batch is not `watched`. `positives` is the number of
    positives since it was last set to 0.

    Parameters
    ----------
    network
        Encodes both sides (see `models.two_tower`).
    loss
        The conf's `loss:` block.
    item_features
        Table rows of every item by dense index, int64 [items, item width].
    item_counts
        Number of training rows of every item by dense index, [items]; needed for in-batch and
        sampled negatives.
    half_precision
        Whether to multiply in bfloat16; weights, sums and losses stay in float32.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        item_features: Tensor,
        item_counts: Tensor | None = None,
        half_precision: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.item_features = item_features
        self.half_precision = half_precision
        self.positives = 0
        self.watched = True
        self._drawn: list[Tensor] = []
        # Log probabilities that the item of a training row, or of a draw, is not the given item.
        self._not_in_row = self._not_drawn = None
        self._alias: AliasTable | None = None
        # Cached logQ of every item, and the batch size it was computed for.
        self._log_q_rows, self._every_log_q = 0, torch.empty(0)
        if item_counts is None:
            assert loss.negatives in ("given", "all"), "shared negatives need the items' counts"
            return
        counts = item_counts.to(item_features.device)
        weights = torch.where(counts > 0, counts.double() ** loss.alpha, 0.0)
        self._not_in_row = losses.log_not_drawn(counts)
        self._not_drawn = losses.log_not_drawn(weights)
        self._alias = alias_table(weights)

    def learn(self, batch: Mapping[str, Tensor]) -> Scored:
        """Compute `forward` and its gradients, which replace those of the parameters."""
        for parameter in self.network.parameters():
            parameter.grad = None
        loss, scores, labels = self(batch)
        loss.backward()
        return loss.detach(), scores, labels

    def begin_epoch(self) -> None:
        """Switch to training, and reset the state that a resumed run does not have."""
        self.train()
        self.positives = 0
        self._drawn = []

    def contrast(self, queries: Tensor, targets: Tensor, weight: Tensor | None = None) -> Scored:
        """Loss of query vectors [n, dim] with positives `targets` [n] against shared candidates.

        These are the items of the batch, also sampled items, or all items. `weight` has the weights
        of the queries, [n].
        """
        candidates = self.candidates(targets)
        vectors = self._encode_items(self.item_features[candidates])
        return self.contrast_with(queries, vectors, targets, candidates, weight)

    def contrast_with(
        self,
        queries: Tensor,
        vectors: Tensor,
        targets: Tensor,
        candidates: Tensor,
        weight: Tensor | None = None,
    ) -> Scored:
        """`contrast`, with given vectors of the candidates, [candidates, dim]."""
        queries = queries / self.loss.temperature
        own = torch.searchsorted(candidates, targets)
        if self.loss.name == "softmax":
            log_q = self._log_q(candidates, len(targets))
            loss = losses.shared_softmax_loss(
                queries, vectors, own, log_q, self.half_precision, weight
            )
            return loss, *self._pairs_of_others(queries, vectors, own)
        scores = queries @ vectors.T
        positive = scores.gather(1, own[:, None])[:, 0]
        mask = candidates != targets[:, None]
        # One of the columns is the positive of the row.
        loss = self._loss_of(positive, scores, mask, max(scores.shape[1] - 1, 1), weight)
        return loss, *self._pairs_of_others(queries, vectors, own)

    def contrast_gradients(
        self, queries: Tensor, vectors: Tensor, targets: Tensor, candidates: Tensor
    ) -> tuple[Scored, Tensor, Tensor]:
        """The result of `contrast_with`, and the gradients of the queries and of the vectors."""
        if self.loss.name != "softmax":
            leaves = queries.detach().requires_grad_(), vectors.detach().requires_grad_()
            with torch.enable_grad():
                loss, scores, labels = self.contrast_with(*leaves, targets, candidates)
            to_queries, to_vectors = torch.autograd.grad(loss, leaves)
            return (loss.detach(), scores, labels), to_queries, to_vectors
        temperature = self.loss.temperature
        own = torch.searchsorted(candidates, targets)
        log_q = self._log_q(candidates, len(targets))
        loss, to_queries, to_vectors = losses.shared_softmax_gradients(
            queries / temperature, vectors, own, log_q, self.half_precision
        )
        scores, labels = self._pairs_of_others(queries / temperature, vectors, own)
        return (loss, scores, labels), to_queries / temperature, to_vectors

    def candidates(self, targets: Tensor) -> Tensor:
        """The distinct candidates, ascending, including the targets."""
        match self.loss.negatives:
            case "in_batch":
                return _distinct(targets)
            case "sampled":
                return _distinct(torch.cat([targets, self._draw()]))
            case _:
                count = len(self.item_features)
                return torch.arange(FIRST_ITEM, count, device=targets.device)

    def _log_q(self, candidates: Tensor, rows: int) -> Tensor | None:
        """Log of the probability that each is a candidate, as the item of a row or by a draw."""
        if self.loss.negatives == "all" or not self.loss.log_q:
            return None
        assert self._not_in_row is not None and self._not_drawn is not None
        if rows != self._log_q_rows:  # most batches have the same size
            absent = rows * self._not_in_row
            if self.loss.negatives == "sampled":
                absent = absent + self.loss.samples * self._not_drawn
            self._log_q_rows, self._every_log_q = rows, losses.log_q(absent)
        return self._every_log_q.index_select(0, candidates)

    def _loss_of(
        self,
        positive: Tensor,
        negative: Tensor,
        mask: Tensor,
        negatives: int,
        weight: Tensor | None,
    ) -> Tensor:
        """The loss of scores [n] and [n, columns]; at most `negatives` of a row are in the mask."""
        settings = self.loss
        if settings.elu:
            positive, negative = (F.elu(scores, settings.elu) for scores in (positive, negative))
        match settings.name:
            case "bpr_max" | "top1_max":
                function = getattr(losses, f"{settings.name}_loss")
                strength = settings.score_regularisation
                return function(positive, negative, mask, weight, score_regularisation=strength)
            case "hinge":
                return losses.hinge_loss(positive, negative, mask, weight, margin=settings.margin)
            case "ccl":
                return losses.ccl_loss(
                    positive,
                    negative,
                    mask,
                    weight,
                    margin=settings.margin,
                    negative_weight=settings.negative_weight,
                )
            case "bce":
                # So the network does not have to learn the number of negatives per positive.
                odds = math.log(negatives)
                return losses.bce_loss(positive - odds, negative - odds, mask, weight)
            case "gbce":
                items = len(self.item_features) - FIRST_ITEM
                beta = losses.gbce_beta(negatives, items, settings.calibration)
                return losses.gbce_loss(positive, negative, mask, weight, beta=beta)
            case _:
                return getattr(losses, f"{settings.name}_loss")(positive, negative, mask, weight)

    def _draw(self) -> Tensor:
        """The samples of a step. They are drawn for many steps at once, which is faster."""
        if not self._drawn:
            assert self._alias is not None
            drawn = draw(self._alias, self.loss.samples * _STEPS_DRAWN)
            self._drawn = list(drawn.split(self.loss.samples))
        return self._drawn.pop()

    def _encode_items(self, features: Tensor) -> Tensor:
        with self._precision():
            vectors: Tensor = self.network.encode_items(features)  # type: ignore[operator]
        return vectors.float()

    def _precision(self) -> torch.autocast:
        device = self.item_features.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.half_precision)

    @torch.no_grad()
    def _pairs_of_others(
        self, queries: Tensor, items: Tensor, positives: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores of some queries with their own positive and with the positives of others."""
        if not self.watched:
            return queries.new_empty(0), queries.new_empty(0)
        every = max(-(-len(positives) // _AUC_POSITIVES), 1)
        queries, own = queries[::every], positives[::every]
        rows = torch.arange(len(own), device=own.device)
        # Far apart, because neighbouring rows may be steps of one user's window.
        apart = max(len(own) // (_AUC_NEGATIVES + 1), 1)
        shift = apart * torch.arange(1, _AUC_NEGATIVES + 1, device=own.device)
        others = own[(rows[:, None] + shift) % len(own)]
        chosen = F.embedding(torch.cat([own[:, None], others], dim=1), items)
        scores = (chosen @ queries[:, :, None])[..., 0]
        return _pairs(scores[:, 0], scores[:, 1:], others != own[:, None])


class TwoTowerLoss(Objective):
    """The objective for training rows that have a query and the item that was chosen.

    A batch has `user` [batch, width], `item` [batch], and, with `negatives: given`, either
    `negatives` [batch, negatives] (0 if fewer could be drawn) or `label` [batch]. It may have the
    weights of the rows, `weight` [batch].
    """

    def forward(self, batch: Mapping[str, Tensor]) -> Scored:
        self.positives += len(batch["item"])
        weight = batch["weight"].float() if "weight" in batch else None
        if self.loss.negatives != "given":
            return self.contrast(self._encode_users(batch["user"]), batch["item"], weight)
        if "label" in batch:
            # The estimator only accepts labels with bce.
            scores = self._scores(batch["user"], batch["item"][:, None])[:, 0]
            labels = batch["label"].to(scores.dtype)
            return losses.labelled_bce_loss(scores, labels, weight), scores.detach(), labels
        items = torch.cat([batch["item"][:, None], batch["negatives"]], dim=1)
        scores = self._scores(batch["user"], items)
        positive, negative, mask = scores[:, 0], scores[:, 1:], batch["negatives"] != 0
        loss = self._loss_of(positive, negative, mask, negative.shape[1], weight)
        return loss, *_pairs(positive, negative, mask)

    def _scores(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores of every row's items, [batch, items]. Each distinct item is encoded once."""
        distinct, inverse = torch.unique(items, return_inverse=True)
        item_vectors = self._encode_items(self.item_features[distinct])
        user_vectors = self._encode_users(users)
        if len(distinct) <= _PRODUCT_BELOW * items.shape[1]:
            scores = (user_vectors @ item_vectors.T).gather(1, inverse)
        else:
            gathered = F.embedding(inverse, item_vectors)
            scores = (gathered @ user_vectors[:, :, None])[..., 0]
        return scores / self.loss.temperature

    def _encode_users(self, features: Tensor) -> Tensor:
        with self._precision():
            vectors: Tensor = self.network.encode_users(features)  # type: ignore[operator]
        return vectors.float()


class SequenceLoss(Objective):
    """The objective for windows of a user's items; every step predicts the item that follows.

    A batch has `items` [batch, steps + 1], oldest first, with padding (0) after the last. It may
    have the users' features, `user` [batch, width], and `weights` of the shape of `items`; the loss
    of a step has the weight of the item that follows. With `before`, of the same shape, an item is
    predicted from the first `before` items of its window instead; one with 0 is not predicted.
    """

    def forward(self, batch: Mapping[str, Tensor]) -> Scored:
        items = batch["items"]
        longest = int((items != 0).sum(dim=1).max())
        following = items[:, 1:longest]
        trained = following != 0
        if "before" in batch:
            before = batch["before"][:, 1:longest]
            trained &= before != 0
        targets = following[trained]
        candidates = self.candidates(targets)
        with self._precision():
            states, vectors = self.network.encode_step(  # type: ignore[operator]
                items[:, : longest - 1], candidates, batch.get("user")
            )
        self.positives += len(targets)
        weight = batch["weights"][:, 1:longest][trained].float() if "weights" in batch else None
        if "before" in batch:
            windows = trained.nonzero()[:, 0]
            queries = states[windows, before[trained] - 1].float()
        else:
            queries = states[trained].float()
        return self.contrast_with(queries, vectors.float(), targets, candidates, weight)


def _distinct(items: Tensor) -> Tensor:
    """Distinct items, ascending."""
    if items.device.type != "cpu":
        return torch.unique(items)
    # NumPy sorts a few numbers several times as fast as Torch; `np.unique` would use a hash table.
    ascending = np.sort(items.numpy())
    first = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
    return torch.from_numpy(ascending[first])


def _pairs(positive: Tensor, negative: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Detached scores of the positives and of the negatives in the mask, flat, and their labels."""
    flat = torch.cat([positive, negative[mask]]).detach()
    return flat, (torch.arange(len(flat), device=flat.device) < len(positive)).to(flat.dtype)

"""Losses as pure functions of the scores of positives and their negatives.

=============  ====================================================================================
`bce`          binary cross-entropy of each item on its own: calibrated scores, but slow to learn a
               ranking
`gbce`         `bce` that corrects the overconfidence which sampled negatives cause
`softmax`      cross-entropy of the positive among all candidates: the fastest way to a good
               ranking, best with many negatives; correct sampled ones with `log_q`
`bpr`, `top1`  pairwise: the positive above each negative; `top1` also keeps scores near zero
`bpr_max`,     the same with more weight on the hardest negatives, for many negatives per positive
`top1_max`
`hinge`        pairwise with a margin: no gradient from negatives that are low enough
`ccl`          for cosines: positives close to 1, negatives below a margin (SimpleX)
=============  ====================================================================================

In all functions `positive` has the scores of the positives, float [batch]; `negative` the scores of
their negatives, float [batch, negatives]; and `mask` is True for the negatives that count, bool
[batch, negatives], by default all. The result is a mean over the batch, unless the function says
otherwise. `weight` has the weights of the rows, float [batch]: the terms of a row are multiplied by
its weight, and the sum is divided by the same number as without weights.

`labelled_bce_loss` is for rows that have a label, such as impression logs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# 4 MB of float32 scores: a chunk that stays in the processor's cache.
_CHUNK_SCORES = 1 << 20


def bce_loss(
    positive: Tensor, negative: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy, mean over all pairs. Scores are logits."""
    return gbce_loss(positive, negative, mask, weight, beta=1.0)


def gbce_loss(
    positive: Tensor,
    negative: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    beta: float,
) -> Tensor:
    """Generalised binary cross-entropy, mean over all pairs: the positive's sigmoid to the `beta`.

    Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained
    with Negative Sampling", RecSys 2023, eq. 9; `gbce_beta` gives their beta.
    """
    positives = beta * _weighted(F.softplus(-positive), weight).sum()
    negatives = _weighted(F.softplus(negative), weight)
    if mask is None:
        return (positives + negatives.sum()) / (positive.numel() + negative.numel())
    return (positives + (negatives * mask).sum()) / (positive.numel() + mask.sum())


def gbce_beta(negatives: int, items: int, calibration: float) -> float:
    """The power of gBCE: a (t (1 - 1/a) + 1/a), with a = negatives / (items - 1) (eq. 12).

    `calibration`, their t, is 0 for plain bce and 1 for scores whose sigmoid is a probability.
    """
    rate = negatives / max(items - 1, 1)
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def softmax_loss(
    positive: Tensor, negative: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the positive among itself and its negatives.

    A positive whose negatives are all masked costs nothing.
    """
    if mask is not None:
        negative = negative.masked_fill(~mask, -torch.inf)
    every = torch.cat([positive[:, None], negative], dim=1)
    return _weighted(every.logsumexp(dim=1) - positive, weight).mean()


def shared_softmax_loss(
    queries: Tensor,
    items: Tensor,
    positive: Tensor,
    log_q: Tensor | None = None,
    half_precision: bool = False,
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each query's positive among candidates that all queries share.

    Scores are computed for one chunk of queries at a time, and the gradients of a chunk are
    computed together with its scores. So memory is needed for one chunk and not for queries x
    items.

    Parameters
    ----------
    queries
        [batch, dim].
    items
        [items, dim]; a score is the inner product.
    positive
        Row of each query's positive in `items`, [batch].
    log_q
        Value that is subtracted from the scores of each item, [items]: see `log_q`.
    half_precision
        Whether to multiply in bfloat16 and sum in float32: twice as fast on processors that support
        it, with three digits of precision.
    weight
        Weights of the queries, [batch].
    """
    return _SharedSoftmax.apply(queries, items, positive, log_q, half_precision, weight)


def shared_softmax_gradients(
    queries: Tensor,
    items: Tensor,
    positive: Tensor,
    log_q: Tensor | None = None,
    half_precision: bool = False,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of `shared_softmax_loss`, and its gradients, [batch, dim] and [items, dim]."""
    count, chunk = len(queries), max(1, _CHUNK_SCORES // len(items))
    own = F.embedding(positive, items)
    weighted = _weighted(queries, weight)
    total = -(weighted * own).sum()
    if log_q is not None:
        total += _weighted(log_q[positive], weight).sum()
    # The gradient is that of a row's log-sum-exp, less the positive's own.
    to_queries, to_items = _weighted(own, weight) / -count, None
    kind = torch.bfloat16 if half_precision else queries.dtype
    all_items = items.to(kind)
    for start in range(0, count, chunk):
        part = queries[start : start + chunk]
        scores = part.to(kind) @ all_items.T
        if log_q is not None:
            scores.sub_(log_q)
        highest = scores.amax(dim=1, keepdim=True)
        shares = scores.sub_(highest).exp_()
        sums = shares.sum(dim=1, keepdim=True, dtype=queries.dtype)
        of_part = None if weight is None else weight[start : start + chunk]
        total += _weighted(sums.log() + highest, of_part).sum()
        weights = _weighted(1 / (sums * count), of_part)
        to_queries[start : start + chunk] += (shares @ all_items) * weights
        from_part = (shares.T @ (part * weights).to(kind)).to(items.dtype)
        to_items = from_part if to_items is None else to_items.add_(from_part)
    assert to_items is not None, "no queries"
    to_items.index_add_(0, positive, weighted, alpha=-1 / count)
    return total / count, to_queries, to_items


class _SharedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        loss, *ctx.gradients = shared_softmax_gradients(*given)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        # The gradients are scaled in place, so backward works only once.
        to_queries, to_items = ctx.gradients
        del ctx.gradients
        return to_queries.mul_(gradient), to_items.mul_(gradient), None, None, None, None


def bpr_loss(
    positive: Tensor, negative: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """-log sigmoid(positive - negative), mean over all pairs.

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
    """
    return _mean_over_pairs(F.softplus(negative - positive[:, None]), mask, weight)


def top1_loss(
    positive: Tensor, negative: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """sigmoid(negative - positive) + sigmoid(negative^2), mean over all pairs.

    Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016.
    """
    pairs = torch.sigmoid(negative - positive[:, None]) + torch.sigmoid(negative.square())
    return _mean_over_pairs(pairs, mask, weight)


def bpr_max_loss(
    positive: Tensor,
    negative: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    score_regularisation: float = 1.0,
) -> Tensor:
    """-log sum_j s_j sigmoid(positive - negative_j) + regularisation * sum_j s_j negative_j^2.

    s is the softmax over a positive's negatives. Hidasi and Karatzoglou, "Recurrent Neural
    Networks with Top-k Gains for Session-based Recommendations", CIKM 2018, eqs. 9 and 10.
    """
    share = _share(negative, mask)
    wins = torch.log_softmax(_without(negative, mask), dim=1) + F.logsigmoid(
        positive[:, None] - negative
    )
    penalty = (share * negative.square()).sum(dim=1)
    return _mean_over_rows(score_regularisation * penalty - wins.logsumexp(dim=1), mask, weight)


def top1_max_loss(
    positive: Tensor,
    negative: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    score_regularisation: float = 1.0,
) -> Tensor:
    """sum_j s_j (sigmoid(negative_j - positive) + regularisation * sigmoid(negative_j^2)).

    s is the softmax over a positive's negatives; the paper of `bpr_max_loss`, eq. 6, where the
    regularisation is 1.
    """
    pairs = torch.sigmoid(negative - positive[:, None])
    pairs = pairs + score_regularisation * torch.sigmoid(negative.square())
    return _mean_over_rows((_share(negative, mask) * pairs).sum(dim=1), mask, weight)


def hinge_loss(
    positive: Tensor,
    negative: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    margin: float = 1.0,
) -> Tensor:
    """max(0, margin - positive + negative), mean over all pairs."""
    return _mean_over_pairs(F.relu(margin - positive[:, None] + negative), mask, weight)


def ccl_loss(
    positive: Tensor,
    negative: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    margin: float,
    negative_weight: float,
) -> Tensor:
    """Cosine contrastive loss: 1 - positive + weight * mean over negatives of max(0, n - margin).

    Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021,
    eq. 1. Scores are cosines, not divided by a temperature.
    """
    above = F.relu(negative - margin)
    if mask is None:
        return _weighted(1 - positive + negative_weight * above.mean(dim=1), weight).mean()
    mean = (above * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return _weighted(1 - positive + negative_weight * mean, weight).mean()


def _weighted(values: Tensor, weight: Tensor | None) -> Tensor:
    """Values [batch, ...], those of each row multiplied by its weight."""
    return values if weight is None else values * weight.view(-1, *[1] * (values.dim() - 1))


def _mean_over_pairs(pairs: Tensor, mask: Tensor | None, weight: Tensor | None) -> Tensor:
    pairs = _weighted(pairs, weight)
    if mask is None:
        return pairs.mean()
    return (pairs * mask).sum() / mask.sum().clamp(min=1)


def _mean_over_rows(rows: Tensor, mask: Tensor | None, weight: Tensor | None) -> Tensor:
    """The mean over the batch; the loss of a positive without negatives is 0."""
    rows = _weighted(rows, weight)
    return rows.mean() if mask is None else (rows * mask.any(dim=1)).mean()


def _without(negative: Tensor, mask: Tensor | None) -> Tensor:
    """Scores, with the masked ones so low that their softmax is 0."""
    return (
        negative if mask is None else negative.masked_fill(~mask, torch.finfo(negative.dtype).min)
    )


def _share(negative: Tensor, mask: Tensor | None) -> Tensor:
    """The softmax over each positive's negatives; 0 for masked ones."""
    share = torch.softmax(_without(negative, mask), dim=1)
    return share if mask is None else share * mask


def labelled_bce_loss(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of scores (logits) [batch] with labels [batch] in [0, 1]."""
    return F.binary_cross_entropy_with_logits(scores, labels, weight)


def log_not_drawn(weights: Tensor) -> Tensor:
    """Log of the probability that a draw in proportion to `weights` [items] is not the item.

    float64 [items]. Weights of 0 are replaced by the smallest positive weight.
    """
    weights = weights.double()
    least = weights[weights > 0].min()
    share = weights.clamp(min=least) / weights.sum()
    return torch.log1p(-share.clamp(max=1 - 1e-12))


def log_q(log_absent: Tensor) -> Tensor:
    """Log of the probability that an item is a candidate, from the log probability that it is not.

    Subtracted from the scores of in-batch or sampled candidates, it corrects their bias towards
    popular items (Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", RecSys 2019, eq. 3; the paper uses the expected number of occurrences, which
    is the same for rare items, but here candidates are distinct). The log probability that an item
    is not in n draws is n times `log_not_drawn`. The result is float32.
    """
    return torch.log(-torch.expm1(log_absent)).float()

"""Losses as pure functions of scores.

`bce_loss` for sampled negatives, each pair judged on its own: well calibrated, slow to learn a
ranking. `labelled_bce_loss` is the same for rows that come with a label of their own, as
impression logs do.
"""

import torch.nn.functional as F
from torch import Tensor


def bce_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of one positive against its negatives, mean over all pairs.

    Parameters
    ----------
    positive
        Scores (logits) of the positives, [batch].
    negative
        Scores of the negatives, [batch, negatives].
    mask
        True where a negative counts, [batch, negatives]; all of them by default.
    """
    positives = F.softplus(-positive).sum()
    negatives = F.softplus(negative)
    if mask is None:
        return (positives + negatives.sum()) / (positive.numel() + negative.numel())
    return (positives + (negatives * mask).sum()) / (positive.numel() + mask.sum())


def labelled_bce_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of scores (logits) [batch] with labels [batch] in [0, 1]."""
    return F.binary_cross_entropy_with_logits(scores, labels)

"""The area under the ROC curve during training."""

import torch
from torch import Tensor


class StreamingAUC:
    """Area under the ROC curve of all scores so far, from bins of width 1/2000 in probability."""

    _BINS = 2000

    def __init__(self) -> None:
        self._positive = torch.zeros(self._BINS, dtype=torch.float64)
        self._negative = torch.zeros(self._BINS, dtype=torch.float64)

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add logits [n] and their labels [n]."""
        bins = (scores.sigmoid() * self._BINS).long().clamp_(0, self._BINS - 1).cpu()
        is_positive = labels.cpu() > 0.5
        self._positive += torch.bincount(bins[is_positive], minlength=self._BINS)
        self._negative += torch.bincount(bins[~is_positive], minlength=self._BINS)

    def value(self) -> float:
        """The area; 0.5 if one class is missing."""
        below = self._negative.cumsum(0) - self._negative
        pairs = self._positive.sum() * self._negative.sum()
        wins = (self._positive * (below + self._negative / 2)).sum()
        return float(wins / pairs) if pairs else 0.5

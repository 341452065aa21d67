"""The validation metric: full ranking of the validation rows, between epochs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_BLOCK = 1024


class Validation:
    """recall@k or ndcg@k of the validation rows, one relevant item each.

    Parameters
    ----------
    tensors
        `queries` [rows, user width], `targets` [rows], `candidates` [items], and, where seen
        items are excluded, `seen` and `seen_offsets` (ragged, dense items).
    metric
        Such as `recall@20`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], metric: str) -> None:
        self.metric = metric
        name, _, k = metric.partition("@")
        self._name, self._k = name, int(k)
        self._tensors = tensors

    @torch.no_grad()
    def measure(self, network: nn.Module, item_features: Tensor) -> float:
        """The metric's mean over the rows; an item tied with the target ranks before it."""
        network.eval()
        tensors, device = self._tensors, item_features.device
        candidates = tensors["candidates"].to(device)
        vectors = network.encode_items(item_features[candidates])  # type: ignore[operator]
        column = torch.full((len(item_features),), -1, dtype=torch.long, device=device)
        column[candidates] = torch.arange(len(candidates), device=device)
        total = 0.0
        rows = len(tensors["targets"])
        for start in range(0, rows, _BLOCK):
            stop = min(start + _BLOCK, rows)
            queries = tensors["queries"][start:stop].to(device)
            scores = network.encode_users(queries) @ vectors.T  # type: ignore[operator]
            targets = column[tensors["targets"][start:stop].to(device)]
            known = targets >= 0
            target_scores = scores.gather(1, targets.clamp(min=0)[:, None])
            if "seen" in tensors:
                row, seen = self._seen(start, stop, column.cpu())
                scores[row.to(device), seen.to(device)] = -torch.inf
                masked = scores.gather(1, targets.clamp(min=0)[:, None])[:, 0] == -torch.inf
                known &= ~masked
            # The target itself counts once.
            rank = (scores >= target_scores).sum(dim=1) - 1
            hit = known & (rank < self._k)
            gains = torch.ones_like(rank, dtype=torch.float64)
            if self._name == "ndcg":
                gains = 1 / torch.log2(rank.clamp(min=0).double() + 2)
            total += float((gains * hit).sum())
        return total / max(rows, 1)

    def _seen(self, start: int, stop: int, column: Tensor) -> tuple[Tensor, Tensor]:
        offsets = self._tensors["seen_offsets"][start : stop + 1]
        seen = column[self._tensors["seen"][offsets[0] : offsets[-1]]]
        row = torch.repeat_interleave(torch.arange(stop - start), offsets.diff())
        return row[seen >= 0], seen[seen >= 0]


def improved(value: float, best: float) -> bool:
    """Whether a metric is better than the best so far."""
    return value > best

"""The validation metric: full ranking of the validation rows, between epochs."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

_BLOCK = 1024


class Validation:
    """recall@k or ndcg@k of the validation queries, as `evaluation.metrics` defines them.

    Parameters
    ----------
    tensors
        `queries` [queries, user width], `candidates` [items], the relevant items of each query,
        `targets` with `target_offsets` (ragged, dense items, at least one each), and, where seen
        items are excluded, `seen` and `seen_offsets` likewise.
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
        """The metric's mean over the queries; an item tied with a relevant one ranks before it."""
        network.eval()
        counts = self._tensors["target_offsets"].diff().to(item_features.device)
        gains = torch.zeros(len(counts), dtype=torch.float64, device=counts.device)
        discounts = 1 / torch.log2(torch.arange(self._k + 1, device=counts.device).double() + 2)
        discounts[self._k] = 0
        for query, rank in self._ranks(network, item_features):
            gain = discounts[rank] if self._name == "ndcg" else (rank < self._k).double()
            gains.index_add_(0, query, gain)
        best = discounts.cumsum(0)[counts.clamp(max=self._k) - 1]
        return float((gains / (best if self._name == "ndcg" else counts)).mean())

    def _ranks(self, network: nn.Module, item_features: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The query and the rank, k for all behind that, of every relevant item, in blocks."""
        tensors, device = self._tensors, item_features.device
        candidates = tensors["candidates"].to(device)
        vectors = network.encode_items(item_features[candidates])  # type: ignore[operator]
        column = torch.full((len(item_features),), -1, dtype=torch.long, device=device)
        column[candidates] = torch.arange(len(candidates), device=device)
        counts = tensors["target_offsets"].diff()
        query = torch.repeat_interleave(torch.arange(len(counts)), counts)
        for start in range(0, len(query), _BLOCK):
            # The queries of so many relevant items; the last may go on in the next block.
            rows = query[start : start + _BLOCK]
            first, stop = int(rows[0]), int(rows[-1]) + 1
            features = tensors["queries"][first:stop].to(device)
            scores = network.encode_users(features) @ vectors.T  # type: ignore[operator]
            rows = rows.to(device)
            targets = column[tensors["targets"][start : start + _BLOCK].to(device)]
            known, places = targets >= 0, (rows - first, targets.clamp(min=0))
            if "seen" in tensors:
                row, seen = self._seen(first, stop, column.cpu())
                scores[row.to(device), seen.to(device)] = -torch.inf
                known &= scores[places] != -torch.inf
            # So many scores tell every rank below k. The relevant item itself counts once.
            highest = scores.topk(min(self._k + 1, len(candidates))).values
            rank = (highest[rows - first] >= scores[places][:, None]).sum(dim=1) - 1
            yield rows, rank.masked_fill(~known, self._k)

    def _seen(self, start: int, stop: int, column: Tensor) -> tuple[Tensor, Tensor]:
        offsets = self._tensors["seen_offsets"][start : stop + 1]
        seen = column[self._tensors["seen"][offsets[0] : offsets[-1]]]
        row = torch.repeat_interleave(torch.arange(stop - start), offsets.diff())
        return row[seen >= 0], seen[seen >= 0]


def improved(value: float, best: float) -> bool:
    """Whether a metric is better than the best so far."""
    return value > best

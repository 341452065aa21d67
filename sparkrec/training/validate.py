"""The validation metric, which is computed after each epoch from a ranking of all items."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

_CHUNK_TARGETS = 1024
# With fewer validation queries, chance cannot be told from a model that has learned a little.
_FEWEST_QUERIES = 100


class Validation:
    """recall@k or ndcg@k of the validation queries, as `evaluation.metrics` defines them.

    Parameters
    ----------
    tensors
        `queries`, int64 [queries, user width]; `candidates`, dense item indices [items]; and the
        relevant items of the queries: `targets`, the dense item indices of all queries one after
        another (at least one each), and `target_offsets` [queries + 1], where each query begins.
        If seen items are excluded, `seen` and `seen_offsets` hold them in the same form.
    metric
        `recall@k` or `ndcg@k`, such as `recall@20`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], metric: str) -> None:
        self.metric = metric
        name, _, k = metric.partition("@")
        self._name, self._k = name, int(k)
        self._tensors = tensors

    @torch.no_grad()
    def measure(self, network: nn.Module, item_features: Tensor) -> float:
        """The mean of the metric over the queries.

        An item that has the same score as a relevant item ranks before it.
        """
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

    def chance(self) -> tuple[float, float] | None:
        """The metric of a random order of the items: expected value, and standard error.

        Each query has an order of its own. None if the split cannot tell a good order from a random
        one: with fewer than 100 queries, or with at most k items to rank.
        """
        tensors = self._tensors
        counts, candidates = tensors["target_offsets"].diff(), tensors["candidates"]
        if len(counts) < _FEWEST_QUERIES or len(candidates) <= self._k:
            return None
        query = torch.repeat_interleave(torch.arange(len(counts)), counts)
        known = torch.isin(tensors["targets"], candidates).double()
        found = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, query, known)
        ranked = torch.full_like(found, len(candidates))
        if "seen" in tensors:
            ranked -= tensors["seen_offsets"].diff()
        ranked.clamp_(min=self._k)
        discounts, best = torch.ones(self._k).double(), counts
        if self._name == "ndcg":
            discounts = 1 / torch.log2(torch.arange(self._k).double() + 2)
            best = discounts.cumsum(0)[counts.clamp(max=self._k) - 1]
        # The relevant items of a query have places drawn without replacement, so the sum of their
        # discounts has the mean and the variance of such a sample.
        mean = discounts.sum() / ranked
        spread = (discounts**2).sum() / ranked - mean**2
        variance = found * spread * (ranked - found) / (ranked - 1).clamp(min=1)
        error = (variance.clamp(min=0) / best**2).sum().sqrt() / len(counts)
        return float((found * mean / best).mean()), float(error)

    def _ranks(self, network: nn.Module, item_features: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the query and the rank of every relevant item, in chunks; ranks above k are k."""
        tensors, device = self._tensors, item_features.device
        candidates = tensors["candidates"].to(device)
        vectors = network.encode_items(item_features[candidates])  # type: ignore[operator]
        column = torch.full((len(item_features),), -1, dtype=torch.long, device=device)
        column[candidates] = torch.arange(len(candidates), device=device)
        counts = tensors["target_offsets"].diff()
        query = torch.repeat_interleave(torch.arange(len(counts)), counts)
        for start in range(0, len(query), _CHUNK_TARGETS):
            # The queries of the relevant items of this chunk. The relevant items of the last query
            # may continue in the next chunk.
            rows = query[start : start + _CHUNK_TARGETS]
            first, stop = int(rows[0]), int(rows[-1]) + 1
            features = tensors["queries"][first:stop].to(device)
            scores = network.encode_users(features) @ vectors.T  # type: ignore[operator]
            rows = rows.to(device)
            targets = column[tensors["targets"][start : start + _CHUNK_TARGETS].to(device)]
            known, places = targets >= 0, (rows - first, targets.clamp(min=0))
            if "seen" in tensors:
                row, seen = self._seen(first, stop, column.cpu())
                scores[row.to(device), seen.to(device)] = -torch.inf
                known &= scores[places] != -torch.inf
            # The k + 1 highest scores are enough to find every rank below k. The relevant item
            # itself is one of them, hence the -1.
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

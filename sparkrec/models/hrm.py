"""HRM: pools the items of the last transaction, then pools the result with the user embedding.

Wang et al., "Learning Hierarchical Representation Model for Next Basket Recommendation", SIGIR
2015. The first layer pools the items of the history, the second layer pools the result and the user
embedding (eq. 1). The score is the inner product with the item's vector. As in the paper, an item
has the same embedding in the history and as a candidate, so items that the user bought before get
high scores, which suits groceries. Where users do not buy an item twice, use two tables
(`constrained_embedding: false`). Max pooling lets the factors interact without any weights; two
layers of averages are a linear model. The history is the last `max_len` items, from one basket or
several.

Use it for next-basket recommendation, and as a baseline that has no weights except the embeddings.
It reads the history as an unordered bag.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkrec.bounds import Dropout, Length, Width, check_bounds
from sparkrec.models.history import HistoryNetwork
from sparkrec.models.two_tower import TowerInput

Pooling = Literal["mean", "max", "sum"]


@dataclass(frozen=True)
class HRMConfig:
    """Settings of the HRM network.

    Attributes
    ----------
    max_len
        Number of the latest items of a history that are read.
    embedding_dim
        Width of all vectors.
    item_pooling
        Operation of the first layer, which pools the items of the history: `mean`, `max` or `sum`.
    user_pooling
        Operation of the second layer, which pools the result of the first and the user embedding:
        `mean`, `max` or `sum`.
    dropout
        Dropout probability of the inputs of the second layer: the pooled items and each user
        embedding.
    constrained_embedding
        Whether an item has the same embedding in a history and as a candidate.
    cosine
        Whether the score is the cosine, as in the other two-tower models. false gives the inner
        product, as in the paper.
    """

    max_len: Length = 10
    embedding_dim: Width = 64
    item_pooling: Pooling = "mean"
    user_pooling: Pooling = "mean"
    dropout: Dropout = 0.0
    constrained_embedding: bool = True
    cosine: bool = True

    def __post_init__(self) -> None:
        check_bounds(self)


class HRM(HistoryNetwork):
    """Two layers of pooling.

    Vectors have size `embedding_dim`. A user without known items and features has the zero vector.
    """

    Config = HRMConfig

    def __init__(self, config: HRMConfig, user: TowerInput, item: TowerInput) -> None:
        super().__init__(user, item, config.embedding_dim, config.constrained_embedding)
        self.config = config

    def encode_users(self, features: Tensor) -> Tensor:
        """Map user-side rows [batch, user width] to vectors [batch, dim]."""
        history, own = self.split(features)
        parts = torch.cat([self._transaction(history)[:, None], own], dim=1)
        # A part without a known value is all zeros; it is left out of the pooling.
        known = (parts != 0).any(dim=-1)
        parts = F.dropout(parts, self.config.dropout, self.training)
        return self._scaled(_pool(parts, known, self.config.user_pooling))

    def encode_items(self, features: Tensor) -> Tensor:
        """Map item-side rows [batch, 1] to vectors [batch, dim]."""
        return self._scaled(self.found_items(features[:, 0]))

    def _transaction(self, history: Tensor) -> Tensor:
        """Pool the items of a history [batch, length] to one vector; zeros for an empty history."""
        match self.config.item_pooling:
            case "max":
                return _pool(self.items(history), history != 0, "max")
            case "sum":
                return self.items.total(history)
            case _:
                return self.mean_of_items(history)

    def _scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.config.cosine else vectors


def _pool(vectors: Tensor, known: Tensor, how: Pooling) -> Tensor:
    """Pool [batch, n, dim] to [batch, dim], over the vectors that are `known` [batch, n].

    Rows without a known vector give zeros.
    """
    if how == "max":
        lowest = torch.finfo(vectors.dtype).min
        highest = vectors.masked_fill(~known[..., None], lowest).amax(dim=1)
        return highest * known.any(dim=1, keepdim=True)
    total = (vectors * known[..., None]).sum(dim=1)
    return total / known.sum(dim=1, keepdim=True).clamp(min=1) if how == "mean" else total

"""HRM: the items of the last transaction pooled to one vector, and that pooled with the user's.

Wang et al., "Learning Hierarchical Representation Model for Next Basket Recommendation", SIGIR
2015. The first layer pools the items of the history, the second the result and the user (eq. 1);
the score is the product with the item's vector, which items read and items found share: what was
had before is close to what was had, as it should be for groceries. Where nobody takes an item
twice, give the two kinds tables of their own (`constrained_embedding: false`). Max pooling lets
factors interact without any weights; two layers of averages make a linear model. The history is
that of the last `max_len` items, in one basket or several.

Use it for next baskets, and as a baseline with no weights but the embeddings. It sees the history
as a bag.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkrec.models import checks
from sparkrec.models.history import HistoryNetwork
from sparkrec.models.two_tower import TowerInput

Pooling = Literal["mean", "max", "sum"]


@dataclass(frozen=True)
class HRMConfig:
    """The network.

    Attributes
    ----------
    max_len
        Items of a history that are read, the last ones.
    embedding_dim
        Width of all vectors.
    item_pooling, user_pooling
        The first layer's operation, over the items, and the second's, over their result and the
        user's embedding.
    dropout
        Probability of dropping a number of what the second layer pools in training: of the pooled
        items and of each embedding of the user.
    constrained_embedding
        Whether the items of the history and those that are found have one embedding.
    cosine
        Score by the cosine, as the other two-tower models do; false gives the paper's product.
    """

    max_len: int = 10
    embedding_dim: int = 64
    item_pooling: Pooling = "mean"
    user_pooling: Pooling = "mean"
    dropout: float = 0.0
    constrained_embedding: bool = True
    cosine: bool = True

    def __post_init__(self) -> None:
        checks.at_least_one(self, "max_len", "embedding_dim")
        checks.probabilities(self, "dropout")


class HRM(HistoryNetwork):
    """Vectors have `embedding_dim` numbers; a user without anything known gets zeros."""

    Config = HRMConfig

    def __init__(self, config: HRMConfig, user: TowerInput, item: TowerInput) -> None:
        super().__init__(user, item, config.embedding_dim, config.constrained_embedding)
        self.config = config

    def encode_users(self, features: Tensor) -> Tensor:
        """User-side rows [batch, user width] to vectors [batch, dim]."""
        history, own = self.split(features)
        parts = torch.cat([self._transaction(history)[:, None], own], dim=1)
        # A part without anything known is all zeros, and does not take part.
        known = (parts != 0).any(dim=-1)
        parts = F.dropout(parts, self.config.dropout, self.training)
        return self._scaled(_pool(parts, known, self.config.user_pooling))

    def encode_items(self, features: Tensor) -> Tensor:
        """Item-side rows [batch, 1] to vectors [batch, dim]."""
        return self._scaled(self.found_items(features[:, 0]))

    def _transaction(self, history: Tensor) -> Tensor:
        """The items of a history [batch, length] as one vector; zeros without items."""
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
    """[batch, n, dim] to [batch, dim], over those that are `known` [batch, n]; zeros for none."""
    if how == "max":
        lowest = torch.finfo(vectors.dtype).min
        highest = vectors.masked_fill(~known[..., None], lowest).amax(dim=1)
        return highest * known.any(dim=1, keepdim=True)
    total = (vectors * known[..., None]).sum(dim=1)
    return total / known.sum(dim=1, keepdim=True).clamp(min=1) if how == "mean" else total

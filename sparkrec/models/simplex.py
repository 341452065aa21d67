"""SimpleX: the user vector is a mixture of a user embedding and the recent items.

Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021. The user
vector is g times the user embedding plus (1 - g) times the aggregated items after a linear map
(eq. 4). Scores are cosines, and the paper's loss is `ccl` (eq. 1) with many negatives.

Use it as a small model where the history tells more than features do: it has a single linear map,
and items need no features. It reads the history as an unordered bag. It has no vectors for items
and users that are not in train; a new user is represented by the history only.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.bounds import Dropout, Length, Share, Width, check_bounds
from sparkrec.models.history import HistoryNetwork
from sparkrec.models.two_tower import TowerInput


@dataclass(frozen=True)
class SimpleXConfig:
    """Settings of the SimpleX network.

    Attributes
    ----------
    max_len
        Number of the latest items of a history that are read.
    embedding_dim
        Width of all vectors.
    aggregation
        How the items of a history become one vector: `mean`, their average; `self_attention`, an
        average with attention weights that depend on the items; `user_attention`, with weights
        that depend on the items and the user embedding.
    user_weight
        The g of eq. 4: weight of the user embedding; the history has the weight 1 - g.
    dropout
        Dropout probability of the user vector.
    constrained_embedding
        Whether an item has the same embedding in a history and as a candidate, as in the paper.
    """

    max_len: Length = 10
    embedding_dim: Width = 64
    aggregation: Literal["mean", "self_attention", "user_attention"] = "mean"
    user_weight: Share = 0.5
    dropout: Dropout = 0.0
    constrained_embedding: bool = True

    def __post_init__(self) -> None:
        check_bounds(self)


class SimpleX(HistoryNetwork):
    """A user embedding mixed with the aggregated history.

    Vectors have size `embedding_dim` and length 1. A user without known items and features has the
    zero vector.
    """

    Config = SimpleXConfig

    def __init__(self, config: SimpleXConfig, user: TowerInput, item: TowerInput) -> None:
        dim = config.embedding_dim
        super().__init__(user, item, dim, config.constrained_embedding)
        self.config = config
        self.mix = nn.Linear(dim, dim, bias=False)
        if config.aggregation != "mean":
            self.attention = nn.Linear(dim, dim)
        if config.aggregation == "self_attention":
            self.query = nn.Parameter(torch.randn(dim) * dim**-0.5)

    def encode_users(self, features: Tensor) -> Tensor:
        """Map user-side rows [batch, user width] to unit vectors [batch, dim]."""
        history, others = self.split(features)
        own, weight = others.sum(dim=1), self.config.user_weight
        mixed = weight * own + (1 - weight) * self.mix(self._aggregate(history, own))
        mixed = F.dropout(mixed, self.config.dropout, self.training)
        return F.normalize(mixed, dim=-1)

    def encode_items(self, features: Tensor) -> Tensor:
        """Map item-side rows [batch, 1] to unit vectors [batch, dim]."""
        return F.normalize(self.found_items(features[:, 0]), dim=-1)

    def _aggregate(self, history: Tensor, own: Tensor) -> Tensor:
        """Aggregate a history [batch, length] to a vector; zeros for an empty history."""
        if self.config.aggregation == "mean":
            return self.mean_of_items(history)
        items, known = self.items(history), (history != 0)[..., None]
        keys = torch.tanh(self.attention(items))
        query = self.query if self.config.aggregation == "self_attention" else own[:, :, None]
        logits = (keys @ query).view(*history.shape, 1)
        lowest = torch.finfo(logits.dtype).min
        share = torch.softmax(logits.masked_fill(~known, lowest), dim=1)
        return (share * known * items).sum(dim=1)

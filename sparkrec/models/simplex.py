"""SimpleX: a user as an embedding mixed with the items of the recent history.

Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021. The user
vector is g times the user's own embedding plus (1 - g) times the aggregated items after a linear
map (eq. 4); scores are cosines, and the loss is meant to be `ccl` (eq. 1), with many negatives.

Use it as a light model where history says most: there is no layer but one map, and its items need
no features. It sees the history as a bag, and knows neither items nor users that train
does not have (a new user is answered from the history).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.models import checks
from sparkrec.models.history import HistoryNetwork
from sparkrec.models.two_tower import TowerInput


@dataclass(frozen=True)
class SimpleXConfig:
    """The network.

    Attributes
    ----------
    max_len
        Items of a history that are read, the last ones.
    embedding_dim
        Width of all vectors.
    aggregation
        How a history becomes a vector: the `mean` of its items; `self_attention`, weighed by what
        they are; `user_attention`, weighed by what they are to the user.
    user_weight
        The g of eq. 4: the share of the user's own embedding, the rest is the history's.
    dropout
        Probability of dropping a number of the user's vector in training.
    constrained_embedding
        Whether the items of the history and those that are found have one embedding, as in the
        paper.
    """

    max_len: int = 10
    embedding_dim: int = 64
    aggregation: Literal["mean", "self_attention", "user_attention"] = "mean"
    user_weight: float = 0.5
    dropout: float = 0.0
    constrained_embedding: bool = True

    def __post_init__(self) -> None:
        checks.at_least_one(self, "max_len", "embedding_dim")
        if not 0 <= self.user_weight <= 1:
            raise ValueError("user_weight must lie in [0, 1]")
        checks.probabilities(self, "dropout")


class SimpleX(HistoryNetwork):
    """Gives unit vectors of `embedding_dim` numbers; a user without anything known gets zeros."""

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
        """User-side rows [batch, user width] to unit vectors [batch, dim]."""
        history, others = self.split(features)
        own, weight = others.sum(dim=1), self.config.user_weight
        mixed = weight * own + (1 - weight) * self.mix(self._aggregate(history, own))
        mixed = F.dropout(mixed, self.config.dropout, self.training)
        return F.normalize(mixed, dim=-1)

    def encode_items(self, features: Tensor) -> Tensor:
        """Item-side rows [batch, 1] to unit vectors [batch, dim]."""
        return F.normalize(self.found_items(features[:, 0]), dim=-1)

    def _aggregate(self, history: Tensor, own: Tensor) -> Tensor:
        """The vector of a history [batch, length]; zeros without items."""
        if self.config.aggregation == "mean":
            return self.mean_of_items(history)
        items, known = self.items(history), (history != 0)[..., None]
        keys = torch.tanh(self.attention(items))
        query = self.query if self.config.aggregation == "self_attention" else own[:, :, None]
        logits = (keys @ query).view(*history.shape, 1)
        lowest = torch.finfo(logits.dtype).min
        share = torch.softmax(logits.masked_fill(~known, lowest), dim=1)
        return (share * known * items).sum(dim=1)

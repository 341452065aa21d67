"""DSSM: two towers whose cosine says how well an item suits a query.

Huang et al., "Learning Deep Structured Semantic Models for Web Search using Clickthrough Data",
CIKM 2013; here, as in most retrieval systems since, with embeddings of declared features in
place of letter trigrams. Each tower sums the embeddings of every feature of its schema,
concatenates the features and sends them through a ReLU network (eq. 3 of the paper); the score is
the cosine of the two outputs (eq. 4) divided by a temperature.

Use it where users and items have features, new items must be scored at once, and serving is a
nearest-neighbour look-up. It sees a user's history as an unordered bag: a sequential model beats
it where order matters.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from sparkrec.models import checks
from sparkrec.models.two_tower import TowerInput, TwoTowerNetwork
from sparkrec.nn.embedding import PooledEmbedding
from sparkrec.nn.layers import mlp


@dataclass(frozen=True)
class DSSMConfig:
    """The network.

    Attributes
    ----------
    embedding_dim
        Width of the embedding of a feature value.
    hidden
        Widths of each tower's layers; the last is the width of the vectors.
    dropout
        Probability of dropping a hidden unit in training.
    """

    embedding_dim: int = 64
    hidden: tuple[int, ...] = (512, 256, 128)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        checks.at_least_one(self, "embedding_dim")
        checks.widths(self, "hidden")
        checks.probabilities(self, "dropout")


class DSSM(TwoTowerNetwork):
    """Both towers; `encode_users` and `encode_items` give unit vectors of `hidden[-1]` numbers."""

    Config = DSSMConfig

    def __init__(self, config: DSSMConfig, user: TowerInput, item: TowerInput) -> None:
        super().__init__()
        self.user_embedding = PooledEmbedding(user.num_rows, config.embedding_dim, user.slices)
        self.item_embedding = PooledEmbedding(item.num_rows, config.embedding_dim, item.slices)
        self.user_tower = mlp(self.user_embedding.out_features, config.hidden, config.dropout)
        self.item_tower = mlp(self.item_embedding.out_features, config.hidden, config.dropout)

    def encode_users(self, features: Tensor) -> Tensor:
        """User-side rows [batch, user width] to unit vectors [batch, dim]."""
        return F.normalize(self.user_tower(self.user_embedding(features)), dim=-1)

    def encode_items(self, features: Tensor) -> Tensor:
        """Item-side rows [batch, item width] to unit vectors [batch, dim]."""
        return F.normalize(self.item_tower(self.item_embedding(features)), dim=-1)

"""DSSM: two towers whose output vectors are compared by their cosine.

Huang et al., "Learning Deep Structured Semantic Models for Web Search using Clickthrough Data",
CIKM 2013. As in most later retrieval systems, the inputs are embeddings of declared features
instead of letter trigrams. Each tower sums the embeddings of the values of a feature, concatenates
the features of its schema and passes them through a ReLU network (eq. 3 of the paper). The score
is the cosine of the two outputs (eq. 4), divided by a temperature.

Use it where users and items have features, where new items must be scored at once, and where
serving is a nearest-neighbour search. It reads a user's history as an unordered bag, so a
sequential model is better where order matters.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from sparkrec.bounds import Dropout, Width, check_bounds
from sparkrec.models.two_tower import TowerInput, TwoTowerNetwork
from sparkrec.nn.embedding import PooledEmbedding
from sparkrec.nn.layers import mlp


@dataclass(frozen=True)
class DSSMConfig:
    """Settings of the DSSM network.

    Attributes
    ----------
    embedding_dim
        Width of the embedding of a feature value.
    hidden
        Widths of the layers of each tower. The last is the width of the user and item vectors.
    dropout
        Dropout probability of the hidden units.
    """

    embedding_dim: Width = 64
    hidden: tuple[Width, ...] = (512, 256, 128)
    dropout: Dropout = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.hidden:
            raise ValueError("hidden must name at least one width")


class DSSM(TwoTowerNetwork):
    """Two towers. `encode_users` and `encode_items` return unit vectors of size `hidden[-1]`."""

    Config = DSSMConfig

    def __init__(self, config: DSSMConfig, user: TowerInput, item: TowerInput) -> None:
        super().__init__()
        self.user_embedding = PooledEmbedding(user.num_rows, config.embedding_dim, user.slices)
        self.item_embedding = PooledEmbedding(item.num_rows, config.embedding_dim, item.slices)
        self.user_tower = mlp(self.user_embedding.out_features, config.hidden, config.dropout)
        self.item_tower = mlp(self.item_embedding.out_features, config.hidden, config.dropout)

    def encode_users(self, features: Tensor) -> Tensor:
        """Map user-side rows [batch, user width] to unit vectors [batch, dim]."""
        return F.normalize(self.user_tower(self.user_embedding(features)), dim=-1)

    def encode_items(self, features: Tensor) -> Tensor:
        """Map item-side rows [batch, item width] to unit vectors [batch, dim]."""
        return F.normalize(self.item_tower(self.item_embedding(features)), dim=-1)

"""SSR: what a user does now, joined with what the user has liked all along.

The multi-rate temporal deep semantic model of Song, Elkahky and He, "Multi-Rate Deep Learning for
Temporal Recommendation", SIGIR 2016. A recurrent network reads the user's items one by one (the
fast rate). A second view changes slowly: an average of all items up to the step, or a recurrent
network with one step for several items. With the user's own features, such as age, these are joined
by a dense layer. The score is the inner product with the vector of the item, or the cosine.

PaddleRec's SSR is a variant of it: the maximum of all states in place of the last
(`short_term: max`), no long-term part, one more linear layer on both sides (`item_hidden`), cosines
and the hinge loss with one sampled negative.

Use it for what GRU4Rec is used for, where users have features or long histories. It was made for
news: with `items: both` or `content`, items that training never saw are read and recommended. The
cost of training is that of GRU4Rec.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.bounds import Count, Dropout, Length, Width, check_bounds
from sparkrec.models.sequence import ItemsRead, SequenceNetwork, check_items_read
from sparkrec.models.two_tower import Reads, TowerInput
from sparkrec.nn.embedding import PooledEmbedding
from sparkrec.nn.items import ItemEncoder, MappedItems
from sparkrec.nn.layers import mlp

# Initial scale of `residual`. Vectors of items begin short, and their mean is shorter still.
_RESIDUAL = 10.0


@dataclass(frozen=True)
class SSRConfig:
    """Settings of the SSR network.

    Attributes
    ----------
    max_len
        Number of the latest items of a history that are read, and of steps in a training window.
    embedding_dim
        Width of the vectors of items that are read.
    hidden
        Widths of the recurrent layers of the short-term part.
    short_term
        The short-term part of a step: `last`, the state of the last recurrent layer after it;
        `max`, the maximum of the states up to it, in each dimension.
    long_term
        The long-term part of a step: `mean`, the mean vector of the items up to it; `recurrent`,
        the state of a recurrent layer that reads the mean of every `slow_steps` items; `none`.
    slow_steps
        Number of items for one step of `long_term: recurrent`.
    residual
        Whether the mean of `long_term: mean` is also added to the joined vector, scaled in each
        dimension by a weight that is trained. Items of the history, and items like them, then have
        high scores from the start. Use it where users take the same items again and again. It
        needs one vector for an item read and found, so no `item_hidden`.
    user_dim
        Width of the embedding of a feature of the user side.
    join_hidden
        Widths of the hidden layers with which the parts are joined. Without any, the join is
        linear, and the user's features say which items are liked more, whatever the history is.
    item_hidden
        Widths of dense layers from the vector of an item as it is read to its vector as a
        candidate. Empty: an item has one vector, read and found.
    cosine
        Whether the score is the cosine; if not, it is the inner product.
    bias
        Whether every item has a bias that is added to its score; with `items: both` that of its id.
        Needs an inner product and no `item_hidden`.
    dropout_embedding
        Dropout probability of the vectors of items that are read.
    dropout_hidden
        Dropout probability of the output of each recurrent layer, and of the long-term part.
    items
        What the vector of an item is made of: its `id`, its `content` (the features that the item
        schema declares beside the id), or `both`. With content, items that were not in train can
        be read and recommended.
    id_dropout
        With `both`, the probability with which an item of a training step is represented by its
        content alone, so that content learns to do without the id.
    """

    max_len: Length = 200
    embedding_dim: Width = 128
    hidden: tuple[Width, ...] = (128,)
    short_term: Literal["last", "max"] = "last"
    long_term: Literal["mean", "recurrent", "none"] = "mean"
    slow_steps: Count = 10
    residual: bool = False
    user_dim: Width = 16
    join_hidden: tuple[Width, ...] = (256,)
    item_hidden: tuple[Width, ...] = ()
    cosine: bool = False
    bias: bool = True
    dropout_embedding: Dropout = 0.0
    dropout_hidden: Dropout = 0.0
    items: ItemsRead = "id"
    id_dropout: Dropout = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_items_read(self.items, self.id_dropout)
        if not self.hidden:
            raise ValueError("hidden must name at least one width")
        if self.bias and (self.cosine or self.item_hidden):
            raise ValueError("bias must be false with cosine or item_hidden")
        if self.residual and (self.long_term != "mean" or self.item_hidden):
            raise ValueError("residual needs long_term: mean and no item_hidden")


class SSR(SequenceNetwork):
    """Vectors have the size of the last of `item_hidden`, or `embedding_dim` if there is none.

    `bias` adds a dimension: 1 in steps, the item's bias in items. `cosine` makes unit vectors.
    """

    Config = SSRConfig

    def __init__(self, config: SSRConfig, user: TowerInput, item: TowerInput) -> None:
        dim, hidden = config.embedding_dim, config.hidden
        items = item.encoder_of(config.items, config.id_dropout, dim, bias=config.bias)
        super().__init__(user, item, items)
        self.config, self.has_bias = config, config.bias
        widths = pairwise((dim, *hidden))
        self.layers = nn.ModuleList(nn.GRU(*sizes, batch_first=True) for sizes in widths)
        joined, long_term = hidden[-1], config.long_term
        if long_term != "none":
            joined += dim
        if long_term == "recurrent":
            self.slow = nn.GRU(dim, dim, batch_first=True)
        self.user_embedding: PooledEmbedding | None = None
        if user.slices:
            self.user_embedding = PooledEmbedding(user.num_rows, config.user_dim, user.slices)
            joined += self.user_embedding.out_features
        self.join = mlp(joined, (*config.join_hidden, (dim, *config.item_hidden)[-1]))
        if config.residual:
            # In logarithms, so that a training of a few hundred steps can change it by much.
            self.residual_scale = nn.Parameter(torch.full((dim,), math.log(_RESIDUAL)))
        self.candidates: MappedItems | None = None
        if config.item_hidden:
            self.candidates = MappedItems(items, mlp(dim, config.item_hidden))

    @classmethod
    def reads(cls, config: Any) -> Reads:
        return Reads(
            history=config.max_len,
            whole_history=True,
            user_features=True,
            item_features=False,
            item_content=config.items != "id",
            default_features=("recent_items",),
        )

    @property
    def found_items(self) -> ItemEncoder:
        return self.items if self.candidates is None else self.candidates

    def encode_steps(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """The short-term and the long-term part of each step, side by side."""
        # The bias that is stored in the same table is not read.
        read = self._dropped(
            vectors[..., : self.config.embedding_dim], self.config.dropout_embedding
        )
        states = read
        for layer in self.layers:
            states, _ = layer(states)
            states = self._dropped(states, self.config.dropout_hidden)
        if self.config.short_term == "max":
            states = states.cummax(dim=1).values
        if self.config.long_term == "none":
            return states
        slow = self._means(read) if self.config.long_term == "mean" else self._slow_states(read)
        return torch.cat([states, self._dropped(slow, self.config.dropout_hidden)], dim=-1)

    def with_user(self, steps: Tensor, users: Tensor) -> Tensor:
        """Join both parts and the user's features by the dense layers."""
        long_term = steps[..., self.config.hidden[-1] :]
        if self.user_embedding is not None:
            own = self.user_embedding(users)[:, None].expand(-1, steps.shape[1], -1)
            steps = torch.cat([steps, own.to(steps.dtype)], dim=-1)
        joined: Tensor = self.join(steps)
        if self.config.residual:
            joined = joined + self.residual_scale.exp() * long_term
        if self.config.bias:
            joined = torch.cat([joined, torch.ones_like(joined[..., :1])], dim=-1)
        return joined

    def scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.config.cosine else vectors

    def _means(self, vectors: Tensor) -> Tensor:
        """The mean of the vectors up to each step, [batch, steps, dim]."""
        counts = torch.arange(1, vectors.shape[1] + 1, device=vectors.device)
        return (vectors.float().cumsum(dim=1) / counts[:, None]).to(vectors.dtype)

    def _slow_states(self, vectors: Tensor) -> Tensor:
        """The state after the last whole group of `slow_steps` items, zeros before the first."""
        batch, steps, dim = vectors.shape
        size = self.config.slow_steps
        groups = steps // size
        if not groups:
            return torch.zeros_like(vectors)
        means = vectors[:, : groups * size].view(batch, groups, size, dim).mean(dim=2)
        states, _ = self.slow(means)
        states = F.pad(states, (0, 0, 1, 0))
        ended = torch.arange(1, steps + 1, device=vectors.device) // size
        return states[:, ended]

    def _dropped(self, values: Tensor, share: float) -> Tensor:
        return F.dropout(values, share, self.training)

"""GRU4Rec: a recurrent network over a user's items that predicts the next item.

Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016; Hidasi and
Karatzoglou, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations", CIKM
2018. The score of an item is the inner product of the hidden state and the item's output embedding,
plus the item's bias. With `constrained_embedding` the input and the output embeddings are one table
(CIKM 2018, section 3.3).

Use it where order matters and where sessions are short or users are new, because it represents a
user by their items only. The cost of training is linear in the length of a window, but the steps
of a window have to be computed one after the other; SASRec computes them in parallel.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.bounds import Bounds, Dropout, Length, Width, check_bounds
from sparkrec.models.sequence import ItemsRead, RecurrentNetwork, check_items_read
from sparkrec.models.two_tower import TowerInput
from sparkrec.nn.items import ItemEncoder


@dataclass(frozen=True)
class GRU4RecConfig:
    """Settings of the GRU4Rec network.

    Attributes
    ----------
    max_len
        Number of the latest items of a history that are read, and of steps in a training window.
    hidden
        Widths of the recurrent layers. The last is the width of the item vectors.
    embedding_dim
        Width of the input embedding. With `constrained_embedding` it must be equal to the last
        value of `hidden`.
    constrained_embedding
        Whether the input embedding and the output embedding of an item are the same.
    dropout_embedding
        Dropout probability of the input embeddings.
    dropout_hidden
        Dropout probability of the output of each layer.
    bias
        Whether every item has a bias that is added to its score; with `items: both` that of its id.
    sparse
        Whether the gradients of the embedding tables are sparse. The cost of a training step is
        then in proportion to the number of items in the batch and not to the size of the table,
        which pays off with sampled negatives.
    initial_std
        Standard deviation of the initial embeddings. null means 1 / sqrt(width).
    items
        What the vector of an item is made of: its `id`, its `content` (the features that the item
        schema declares beside the id), or `both`. With content, items that were not in train can
        be read and recommended.
    id_dropout
        With `both`, the probability with which an item of a training step is represented by its
        content alone, so that content learns to do without the id.
    """

    max_len: Length = 200
    hidden: tuple[Width, ...] = (128,)
    embedding_dim: Width = 128
    constrained_embedding: bool = True
    dropout_embedding: Dropout = 0.0
    dropout_hidden: Dropout = 0.0
    bias: bool = True
    sparse: bool = False
    initial_std: Annotated[float, Bounds(0, 1000)] | None = None
    items: ItemsRead = "id"
    id_dropout: Dropout = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_items_read(self.items, self.id_dropout)
        if not self.hidden:
            raise ValueError("hidden must name at least one width")
        if self.constrained_embedding and self.embedding_dim != self.hidden[-1]:
            raise ValueError(
                "constrained_embedding needs embedding_dim equal to the last value of hidden, "
                "because an item has one vector as input and as output"
            )


class GRU4Rec(RecurrentNetwork):
    """A GRU over the items of a window.

    Vectors have size `hidden[-1]`. `bias` adds a dimension: 1 in steps, the item's bias in items.
    """

    Config = GRU4RecConfig

    def __init__(self, config: GRU4RecConfig, user: TowerInput, item: TowerInput) -> None:
        constrained, std, sparse = config.constrained_embedding, config.initial_std, config.sparse
        bias = config.bias and constrained
        read = config.items, config.id_dropout
        items = item.encoder_of(*read, config.embedding_dim, std, sparse, bias)
        super().__init__(user, item, items)
        self.config, self.has_bias = config, config.bias
        self.dropout_embedding = config.dropout_embedding
        self.dropout_hidden = config.dropout_hidden
        widths = pairwise((config.embedding_dim, *config.hidden))
        self.layers = nn.ModuleList(nn.GRU(*sizes, batch_first=True) for sizes in widths)
        if not constrained:
            self.output = item.encoder_of(*read, config.hidden[-1], std, sparse, config.bias)

    def encode_steps(self, vectors: Tensor, mask: Tensor) -> Tensor:
        # The layers do not read the bias that is stored in the same table. Padding comes after the
        # last item, so no padding precedes a step that is used.
        states = self._dropped(vectors[..., : self.config.embedding_dim], self.dropout_embedding)
        for layer in self.layers:
            states, _ = layer(states)
            states = self._dropped(states, self.dropout_hidden)
        return self.with_one(states)

    @property
    def found_items(self) -> ItemEncoder:
        return self.items if self.config.constrained_embedding else self.output

    def with_one(self, states: Tensor) -> Tensor:
        if not self.config.bias:
            return states
        return torch.cat([states, torch.ones_like(states[..., :1])], dim=-1)

    def _dropped(self, values: Tensor, share: float) -> Tensor:
        return F.dropout(values, share, self.training)

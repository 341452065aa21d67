"""GRU4Rec: a recurrent network over a user's items, whose state finds the next one.

Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016; Hidasi and
Karatzoglou, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations", CIKM
2018. The state is multiplied with the output embedding of every item, plus the item's bias; with
`constrained_embedding` input and output embeddings are one table (CIKM 2018, section 3.3).

Use it where order matters and sessions are short or users new: it knows a user by their items
alone. Training walks a window step by step, so its cost is linear in the window's length but the
steps cannot run side by side; SASRec's can.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.models import checks
from sparkrec.models.sequence import RecurrentNetwork
from sparkrec.models.two_tower import TowerInput
from sparkrec.nn.items import ItemEncoder


@dataclass(frozen=True)
class GRU4RecConfig:
    """The network.

    Attributes
    ----------
    max_len
        Items of a history that are read, the last ones; also the steps of a training window.
    hidden
        Widths of the recurrent layers; the last is the width of the items' vectors.
    embedding_dim
        Width of the input embedding; with `constrained_embedding` that of the last layer.
    constrained_embedding
        One table for the items that are read and the items that are found.
    dropout_embedding
        Probability of dropping a number of an input embedding in training.
    dropout_hidden
        Probability of dropping a number of a layer's output in training.
    bias
        Whether every item has a score of its own beside the product.
    sparse
        Whether a step costs as much as the items it names, and not as the whole table: for sampled
        negatives.
    initial_std
        Standard deviation of the embeddings' first weights; null for 1 / sqrt(width).
    """

    max_len: int = 200
    hidden: tuple[int, ...] = (128,)
    embedding_dim: int = 128
    constrained_embedding: bool = True
    dropout_embedding: float = 0.0
    dropout_hidden: float = 0.0
    bias: bool = True
    sparse: bool = False
    initial_std: float | None = None

    def __post_init__(self) -> None:
        checks.at_least_one(self, "max_len", "embedding_dim")
        checks.widths(self, "hidden")
        if self.constrained_embedding and self.embedding_dim != self.hidden[-1]:
            raise ValueError(
                "constrained_embedding needs embedding_dim equal to the last of hidden: the items "
                "that are read and found share their vectors"
            )
        checks.probabilities(self, "dropout_embedding", "dropout_hidden")


class GRU4Rec(RecurrentNetwork):
    """Vectors have `hidden[-1]` numbers; `bias` adds one: 1 in steps, the item's bias in items."""

    Config = GRU4RecConfig

    def __init__(self, config: GRU4RecConfig, user: TowerInput, item: TowerInput) -> None:
        constrained, std, sparse = config.constrained_embedding, config.initial_std, config.sparse
        bias = config.bias and constrained
        super().__init__(user, item, item.item_encoder(config.embedding_dim, std, sparse, bias))
        self.config = config
        self.dropout_embedding = config.dropout_embedding
        self.dropout_hidden = config.dropout_hidden
        widths = pairwise((config.embedding_dim, *config.hidden))
        self.layers = nn.ModuleList(nn.GRU(*sizes, batch_first=True) for sizes in widths)
        if not constrained:
            self.output = item.item_encoder(config.hidden[-1], std, sparse, config.bias)

    def encode_steps(self, vectors: Tensor, mask: Tensor) -> Tensor:
        # A bias that shares the table is not read. Padding stands behind the last item, so no
        # step that counts has it before it.
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

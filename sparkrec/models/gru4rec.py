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
from sparkrec.models.sequence import SequenceNetwork
from sparkrec.models.two_tower import TowerInput
from sparkrec.nn.embedding import ItemTable


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


class GRU4Rec(SequenceNetwork):
    """Vectors have `hidden[-1]` numbers, and with `bias` one more: 1 of a step, the bias of an
    item."""

    def __init__(self, config: GRU4RecConfig, user: TowerInput, item: TowerInput) -> None:
        super().__init__(user, item)
        self.config = config

        def table(dim: int, bias: bool) -> ItemTable:
            std = dim**-0.5 if config.initial_std is None else config.initial_std
            return ItemTable(item.num_items, dim, std, config.sparse, bias)

        constrained = config.constrained_embedding
        self.items = table(config.embedding_dim, config.bias and constrained)
        widths = pairwise((config.embedding_dim, *config.hidden))
        self.layers = nn.ModuleList(nn.GRU(*sizes, batch_first=True) for sizes in widths)
        if not constrained:
            self.output = table(config.hidden[-1], config.bias)

    def encode_steps(self, items: Tensor) -> Tensor:
        # A bias that shares the table is not read.
        states = self.items(items)[..., : self.config.embedding_dim]
        states = self._dropped(states, self.config.dropout_embedding)
        for layer in self.layers:
            states, _ = layer(states)
            states = self._dropped(states, self.config.dropout_hidden)
        return self.with_one(states)

    def encode_items(self, features: Tensor) -> Tensor:
        vectors: Tensor = self.found_items(features[:, 0])
        return vectors

    @property
    def found_items(self) -> ItemTable:
        """The table of the vectors that states are multiplied with."""
        return self.items if self.config.constrained_embedding else self.output

    def _dropped(self, values: Tensor, share: float) -> Tensor:
        return F.dropout(values, share, self.training)

    def with_one(self, states: Tensor) -> Tensor:
        """States with the number that the items' biases are multiplied with."""
        if not self.config.bias:
            return states
        return torch.cat([states, torch.ones_like(states[..., :1])], dim=-1)

"""SASRec: causal self-attention over a user's items; the last step predicts the next item.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018. Two points follow a later
comparison (Klenitskiy and Vasilev, "Turning Dross Into Gold Loss: is BERT4Rec really better than
SASRec?", RecSys 2023) and not the paper: it is trained with a softmax over items, and layer
normalisation comes before each block.

It is the standard baseline of sequential recommendation, and strong where histories are long. The
cost of attention grows with the square of the window's length. All steps of a window are trained
in parallel.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.bounds import Bounds, Dropout, Length, Width, check_bounds
from sparkrec.models.sequence import ItemsRead, SequenceNetwork, check_items_read
from sparkrec.models.two_tower import TowerInput


@dataclass(frozen=True)
class SASRecConfig:
    """Settings of the SASRec network.

    Attributes
    ----------
    max_len
        Number of the latest items of a history that are read, and of steps in a training window.
    dim
        Width of the embeddings and of every layer.
    blocks
        Number of blocks, each a self-attention layer and a feed-forward layer.
    heads
        Number of attention heads. `dim` must be a multiple of it.
    feed_forward
        Width of the hidden part of the feed-forward layers, as a multiple of `dim`.
    dropout
        Dropout probability of the embeddings and of each layer's output.
    attention_dropout
        Dropout probability of the attention weights, as in the paper. Above 0 a training step
        takes twice as long and holds steps x steps weights in memory.
    items
        What the vector of an item is made of: its `id`, its `content` (the features that the item
        schema declares beside the id), or `both`. With content, items that were not in train can
        be read and recommended.
    id_dropout
        With `both`, the probability with which an item of a training step is represented by its
        content alone, so that content learns to do without the id.
    """

    max_len: Length = 200
    dim: Width = 128
    blocks: Annotated[int, Bounds(1, 1000)] = 2
    heads: Width = 2
    feed_forward: Annotated[int, Bounds(1, 1000)] = 4
    dropout: Dropout = 0.2
    attention_dropout: Dropout = 0.0
    items: ItemsRead = "id"
    id_dropout: Dropout = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_items_read(self.items, self.id_dropout)
        if self.dim % self.heads:
            raise ValueError("dim must be a multiple of heads")


class SASRec(SequenceNetwork):
    """Vectors have `dim` numbers; an item has one vector, read and found alike."""

    Config = SASRecConfig

    def __init__(self, config: SASRecConfig, user: TowerInput, item: TowerInput) -> None:
        items = item.encoder_of(config.items, config.id_dropout, config.dim)
        super().__init__(user, item, items)
        self.config = config
        std = config.dim**-0.5
        self.positions = nn.Parameter(torch.randn(config.max_len, config.dim) * std)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)

    def encode_steps(self, vectors: Tensor, mask: Tensor) -> Tensor:
        states = vectors + self.positions[: vectors.shape[1]]
        states = F.dropout(states, self.config.dropout, self.training)
        # Padding comes after the last item, and causal attention never reads a later step.
        for block in self.blocks:
            states = block(states)
        return self.norm(states)


class _Block(nn.Module):
    """Self-attention and a feed-forward layer, each with a residual connection."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.dropout, self.attention_dropout = config.dropout, config.attention_dropout
        self.attention_norm, self.forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        self.widen = nn.Linear(dim, config.feed_forward * dim)
        self.narrow = nn.Linear(config.feed_forward * dim, dim)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self._dropped(self._attend(self.attention_norm(states)))
        widened = F.gelu(self.widen(self.forward_norm(states)))
        return states + self._dropped(self.narrow(widened))

    def _attend(self, states: Tensor) -> Tensor:
        batch, steps, dim = states.shape
        split = self.queries_keys_values(states).view(batch, steps, 3, self.heads, -1)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, dropout_p=dropout
        )
        return self.mix(mixed.transpose(1, 2).reshape(batch, steps, dim))

    def _dropped(self, states: Tensor) -> Tensor:
        return F.dropout(states, self.dropout, self.training)

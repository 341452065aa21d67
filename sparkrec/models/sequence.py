"""What every model is that reads a user's items in their order and is trained at every step.

An item encoder makes a vector of each item of a window, and the network maps those to one vector
for each step; the vector of a step is trained to find the item that follows. To answer a query is
to take the vector of the last step, so that retrieval sees an ordinary pair of towers.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sparkrec.models.two_tower import Reads, TowerInput, TwoTowerNetwork
from sparkrec.nn.items import ItemEncoder


class SequenceNetwork(TwoTowerNetwork):
    """Base of the sequence models.

    A subclass gives the base its item encoder, implements `encode_steps`, and has the field
    `max_len` in its `Config`: the items of a history that are read, and the steps of a training
    window.

    Parameters
    ----------
    user, item
        Shapes of both sides.
    items
        The encoder of the items that are read, `item.item_encoder(dim)`.
    """

    def __init__(self, user: TowerInput, item: TowerInput, items: ItemEncoder) -> None:
        super().__init__()
        assert user.dense and item.dense, "a sequence model reads items by dense index"
        self.history_length = user.dense
        self.items = items

    @classmethod
    def reads(cls, config: Any) -> Reads:
        return Reads(
            history=config.max_len,
            user_features=False,
            item_features=False,
            default_features=("recent_items",),
        )

    @property
    def found_items(self) -> ItemEncoder:
        """The encoder of the vectors that steps are multiplied with; by default that of `items`."""
        return self.items

    def encode_steps(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Vectors of a window's items to vectors of its steps.

        Parameters
        ----------
        vectors
            [batch, steps, dim]: of each item, oldest first; padding stands behind the last.
        mask
            [batch, steps]: True where there is an item.

        Returns
        -------
        Tensor
            [batch, steps, found dim]. The vector of a step depends on the items up to it, and on
            none after it; what stands where the mask is False is not read.
        """
        raise NotImplementedError

    def encode_windows(self, items: Tensor) -> Tensor:
        """Windows [batch, steps] of dense items, 0 behind the last, to [batch, steps, dim]."""
        return self.encode_steps(self.items(items), items != 0)

    def encode_items(self, features: Tensor) -> Tensor:
        """Item-side rows [batch, 1] to vectors [batch, dim]."""
        vectors: Tensor = self.found_items(features[:, 0])
        return vectors

    def encode_users(self, features: Tensor) -> Tensor:
        """Histories [batch, length], 0 behind the last item, to the vectors of their last step.

        A history without items gives the zero vector.
        """
        items = features[:, : self.history_length]
        lengths = (items != 0).sum(dim=1)
        longest = max(int(lengths.max()) if len(lengths) else 0, 1)
        states = self.encode_windows(items[:, :longest])
        last = states[torch.arange(len(items), device=items.device), (lengths - 1).clamp(min=0)]
        return last * (lengths > 0)[:, None]


class RecurrentNetwork(SequenceNetwork):
    """Base of the networks of GRU layers, which alone can be trained session-parallel.

    Attributes
    ----------
    layers
        `nn.GRU` modules of one layer each, `batch_first`, that follow one another.
    dropout_embedding, dropout_hidden
        Probabilities of dropping a number of an item's vector, and of a layer's output.
    items, found_items
        Tables by item id (`nn.items.ItemTable`); the first layer reads as many numbers of a
        vector as it has inputs.
    """

    layers: nn.ModuleList
    dropout_embedding: float
    dropout_hidden: float

    def with_one(self, states: Tensor) -> Tensor:
        """States of the last layer with a 1 for the items' biases, where the items have biases."""
        return states

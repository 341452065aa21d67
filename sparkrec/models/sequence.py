"""What every model is that reads a user's items in their order and is trained at every step.

A network of this kind maps a window of items to one vector a step, `encode_steps`; the vector of a
step is trained to find the item that follows. To answer a query is to take the vector of the last
step, so that retrieval sees an ordinary pair of towers.
"""

import torch
from torch import Tensor, nn

from sparkrec.models.two_tower import TowerInput


class SequenceNetwork(nn.Module):
    """Base of the sequence models; a subclass implements `encode_steps` and `encode_items`."""

    def __init__(self, user: TowerInput, item: TowerInput) -> None:
        super().__init__()
        assert user.dense and item.dense, "a sequence model reads items by dense index"
        self.history_length = user.dense

    def encode_steps(self, items: Tensor) -> Tensor:
        """Windows [batch, steps] of dense items, 0 behind the last, to vectors [batch, steps, dim].

        The vector of a step depends on the items up to it, and on none after it.
        """
        raise NotImplementedError

    def encode_items(self, features: Tensor) -> Tensor:
        """Item-side rows [batch, item width] to vectors [batch, dim]."""
        raise NotImplementedError

    def encode_users(self, features: Tensor) -> Tensor:
        """Histories [batch, length], 0 behind the last item, to the vectors of their last step.

        A history without items gives the zero vector.
        """
        items = features[:, : self.history_length]
        lengths = (items != 0).sum(dim=1)
        longest = max(int(lengths.max()) if len(lengths) else 0, 1)
        states = self.encode_steps(items[:, :longest])
        last = states[torch.arange(len(items), device=items.device), (lengths - 1).clamp(min=0)]
        return last * (lengths > 0)[:, None]

"""What every model whose score is an inner product is to the training loop and to retrieval."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class TowerInput:
    """The columns of one side's features.

    Attributes
    ----------
    num_rows
        Rows of the side's embedding table, padding (0) and unknown (1) included.
    slices
        (start, stop) columns of each feature, counted behind the dense ones.
    dense
        Leading columns that hold items by dense index, where the model reads them: on the user's
        side the recent items, oldest first and 0 behind the last; on the item's side the item.
    num_items
        Rows of a table by dense index, padding (0) and unknown (1) included; 0 without `dense`.
    """

    num_rows: int
    slices: tuple[tuple[int, int], ...]
    dense: int = 0
    num_items: int = 0


class TwoTower(Protocol):
    """A network whose score is the inner product of a query's and an item's vector."""

    def encode_users(self, features: Tensor) -> Tensor:
        """User-side rows [batch, user width] to vectors [batch, dim]."""

    def encode_items(self, features: Tensor) -> Tensor:
        """Item-side rows [batch, item width] to vectors [batch, dim]."""

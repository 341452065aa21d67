"""What every two-tower model is to the training loop and to retrieval."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class TowerInput:
    """The shape of one side's features.

    Attributes
    ----------
    num_rows
        Rows of the tower's embedding table, padding (0) and unknown (1) included.
    slices
        (start, stop) columns of each feature in the encoded matrix.
    """

    num_rows: int
    slices: tuple[tuple[int, int], ...]


class TwoTower(Protocol):
    """A network whose score is the inner product of a query's and an item's vector."""

    def encode_users(self, features: Tensor) -> Tensor:
        """User-side rows [batch, user width] to vectors [batch, dim]."""

    def encode_items(self, features: Tensor) -> Tensor:
        """Item-side rows [batch, item width] to vectors [batch, dim]."""

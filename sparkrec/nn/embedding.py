"""Embedding tables: one per tower with every feature of the tower in it.

A tower's features arrive as a fixed-width matrix of table rows (see `schema.encoder`): feature f
owns the columns `slices[f]`, row 0 of the table is padding and row 1 stands for values never seen
in training. Both are kept at zero, so that a missing and an unknown value add nothing to a sum.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.item_index import FIRST_ITEM

# Padding and unknown: features reserve the same two rows as items do.
RESERVED_ROWS = FIRST_ITEM

_FIRST_LENGTH = 0.2


class Table(nn.Module):
    """A module whose `weight` is a table that can grow, with a gradient by rows where `sparse`."""

    weight: nn.Parameter
    sparse: bool


class PooledEmbedding(Table):
    """Sum-pools each feature's rows and concatenates the features.

    Parameters
    ----------
    num_rows
        Rows of the table, padding and unknown included.
    dim
        Width of a row.
    slices
        (start, stop) columns of each feature in the input.
    sparse
        Whether gradients of the table are sparse, so that a step costs as much as the rows of
        its batch and not as the whole table.
    std
        Standard deviation of the first weights. By default a row is about a fifth long: what few
        rows of train name would else be loud before anything is known of it.
    """

    def __init__(
        self,
        num_rows: int,
        dim: int,
        slices: Sequence[tuple[int, int]],
        sparse: bool = True,
        std: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_rows, dim))
        self.sparse = sparse
        self.slices = tuple(slices)
        self.out_features = len(self.slices) * dim
        self.register_buffer(
            "starts", torch.tensor([start for start, _ in self.slices]), persistent=False
        )
        nn.init.normal_(self.weight, std=_FIRST_LENGTH * dim**-0.5 if std is None else std)
        with torch.no_grad():
            self.weight[:RESERVED_ROWS] = 0

    def forward(self, rows: Tensor) -> Tensor:
        """Map table rows [batch, width] (int64) to [batch, features * dim]."""
        return self.separate(rows).flatten(start_dim=1)

    def separate(self, rows: Tensor) -> Tensor:
        """The same with a place for each feature, [batch, features, dim]."""
        batch, width = rows.shape
        if not self.slices:
            return self.weight.new_zeros(batch, 0, self.weight.shape[1])
        starts: Tensor = self.starts  # type: ignore[assignment]
        offsets = (torch.arange(batch, device=rows.device)[:, None] * width + starts).reshape(-1)
        pooled = F.embedding_bag(
            # Unknown values join padding: neither contributes, neither is trained.
            rows.masked_fill(rows < RESERVED_ROWS, 0).reshape(-1),
            self.weight,
            offsets,
            mode="sum",
            sparse=self.sparse,
            padding_idx=0,
        )
        return pooled.view(batch, len(self.slices), self.weight.shape[1])

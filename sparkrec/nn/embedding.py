"""Embedding tables: one per tower with every feature of the tower in it.

The input is a matrix of table rows of fixed width (see `schema.encoder`). Feature f has the columns
`slices[f]`. Row 0 of the table is padding, and row 1 is for values that were not in training. Both
stay zero, so missing and unknown values add nothing to a sum.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.item_index import FIRST_ITEM

# Padding and unknown: features have the same two reserved rows as items.
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
        Number of rows of the table, including padding and unknown.
    dim
        Width of a row.
    slices
        (start, stop) columns of each feature in the input.
    sparse
        Whether the gradients of the table are sparse. The cost of a step then depends on the rows
        in its batch and not on the size of the table.
    std
        Standard deviation of the initial weights. By default the norm of a row is about 0.2, so
        that values with few training rows do not add much noise.
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
        """As `forward`, but with a dimension for the features, [batch, features, dim]."""
        batch, width = rows.shape
        if not self.slices:
            return self.weight.new_zeros(batch, 0, self.weight.shape[1])
        starts: Tensor = self.starts  # type: ignore[assignment]
        offsets = (torch.arange(batch, device=rows.device)[:, None] * width + starts).reshape(-1)
        pooled = F.embedding_bag(
            # Unknown values are treated as padding: they add nothing and are not trained.
            rows.masked_fill(rows < RESERVED_ROWS, 0).reshape(-1),
            self.weight,
            offsets,
            mode="sum",
            sparse=self.sparse,
            padding_idx=0,
        )
        return pooled.view(batch, len(self.slices), self.weight.shape[1])

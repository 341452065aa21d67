"""Embedding tables: one per tower with every feature of the tower in it, or one of all items.

A tower's features arrive as a fixed-width matrix of table rows (see `schema.encoder`): feature f
owns the columns `slices[f]`, row 0 of the table is padding and row 1 stands for values never seen
in training. Both are kept at zero, so that a missing and an unknown value add nothing to a sum.
Tables by dense item index reserve the same two rows.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESERVED_ROWS = 2

_FIRST_LENGTH = 0.2


class PooledEmbedding(nn.Module):
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


class ItemTable(nn.Module):
    """Embeddings of items by dense index; padding (0) and unknown (1) stay at zero.

    Parameters
    ----------
    num_items
        Rows, padding and unknown included.
    dim
        Width of a row.
    std
        Standard deviation of the first weights.
    sparse
        Whether gradients are sparse, as `PooledEmbedding`'s.
    bias
        Whether a row has one number more, that begins at zero.
    """

    def __init__(
        self, num_items: int, dim: int, std: float, sparse: bool = False, bias: bool = False
    ) -> None:
        super().__init__()
        first = torch.randn(num_items, dim) * std
        first[:RESERVED_ROWS] = 0
        self.weight = nn.Parameter(F.pad(first, (0, int(bias))))
        self.sparse = sparse

    def forward(self, items: Tensor) -> Tensor:
        """Embeddings of items of any shape; the reserved rows give zeros and are not trained."""
        if self.sparse:
            rows: Tensor = _SparseRows.apply(self.weight, items)
            return rows
        known = items.masked_fill(items < RESERVED_ROWS, 0)
        return F.embedding(known, self.weight, padding_idx=0)

    def total(self, items: Tensor) -> Tensor:
        """Sums of the embeddings of rows of items, [batch, length] to [batch, dim].

        As `self(items).sum(dim=1)`, but a sparse table never has batch x length vectors in memory.
        """
        if not self.sparse:
            summed: Tensor = self(items).sum(dim=1)
            return summed
        totals: Tensor = _SparseTotals.apply(self.weight, items)
        return totals


class _SparseRows(torch.autograd.Function):
    """Rows of a table whose gradient is sparse; `F.embedding` takes five times as long back."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, items: Tensor) -> Tensor:
        ctx.save_for_backward(items)
        ctx.shape = weight.shape
        return F.embedding(items, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (items,) = ctx.saved_tensors
        known = items >= RESERVED_ROWS
        values = gradient * known[..., None]
        flat = values.reshape(-1, ctx.shape[1])
        rows = items.reshape(1, -1)
        return torch.sparse_coo_tensor(rows, flat, ctx.shape, check_invariants=False), None


class _SparseTotals(torch.autograd.Function):
    """Sums of rows of a table. Its gradient is sparse and names a row once, however often a batch
    does: the sum, over the places that name it, of what comes back to them."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, items: Tensor) -> Tensor:
        ctx.save_for_backward(items)
        ctx.shape = weight.shape
        # The reserved rows are zeros: to add them is faster than to leave them out.
        return F.embedding_bag(items, weight, mode="sum")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (items,) = ctx.saved_tensors
        ascending, places = items.flatten().sort()
        reserved = int((ascending < RESERVED_ROWS).sum())
        rows, counts = torch.unique_consecutive(ascending[reserved:], return_counts=True)
        queries = places[reserved:] // items.shape[1]
        totals = F.embedding_bag(queries, gradient, counts.cumsum(0) - counts, mode="sum")
        return torch.sparse_coo_tensor(rows[None], totals, ctx.shape, check_invariants=False), None

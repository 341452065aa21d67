"""Item encoders: a vector of each item, from its id, its weighted features, or given numbers.

A sequence model takes the vectors and does not know what they are made of. Items come by dense
index; padding (0) and unknown (1) give zeros, whatever the encoder.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkrec.nn.embedding import RESERVED_ROWS, Table


class ItemEncoder(nn.Module):
    """Maps dense item indices of any shape to vectors [..., dim]."""

    dim: int

    def forward(self, items: Tensor) -> Tensor:
        """int64 of any shape to float32 of that shape and `dim`."""
        raise NotImplementedError


class ItemTable(ItemEncoder, Table):
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
        Whether a row has one more number, the item's bias, which begins at zero.
    """

    def __init__(
        self, num_items: int, dim: int, std: float, sparse: bool = False, bias: bool = False
    ) -> None:
        super().__init__()
        self.dim = dim + int(bias)
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


class ContentEncoder(ItemEncoder):
    """Base of the encoders of what is known of an item beside its id.

    Items are encoded once for each distinct one of a batch; a subclass implements `encode`.
    """

    def encode(self, items: Tensor) -> Tensor:
        """Vectors [n, dim] of distinct items [n], some of them padding or unknown."""
        raise NotImplementedError

    def forward(self, items: Tensor) -> Tensor:
        distinct, inverse = torch.unique(items, return_inverse=True)
        vectors = self.encode(distinct) * (distinct >= RESERVED_ROWS)[:, None]
        return F.embedding(inverse, vectors)


class WeightedFeatures(ContentEncoder, Table):
    """The weighted sum of the embeddings of an item's features.

    Parameters
    ----------
    num_rows, dim
        Rows of the features' table, padding (0) and unknown (1) included, and their width.
    rows
        int64 [items, width]: rows of each item's features by its dense index, 0 for none.
    weights
        float32 [items, width]: what each of them is multiplied with.
    std
        Standard deviation of the first weights; 1 / sqrt(dim) by default.
    sparse
        Whether the gradient of the table is sparse.
    """

    def __init__(
        self,
        num_rows: int,
        dim: int,
        rows: Tensor,
        weights: Tensor,
        std: float | None = None,
        sparse: bool = True,
    ) -> None:
        super().__init__()
        self.dim, self.sparse = dim, sparse
        first = torch.randn(num_rows, dim) * (dim**-0.5 if std is None else std)
        first[:RESERVED_ROWS] = 0
        self.weight = nn.Parameter(first)
        self.rows: Tensor
        self.weights: Tensor
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def encode(self, items: Tensor) -> Tensor:
        rows = self.rows[items]
        return F.embedding_bag(
            rows.masked_fill(rows < RESERVED_ROWS, 0),
            self.weight,
            mode="sum",
            per_sample_weights=self.weights[items],
            sparse=self.sparse,
            padding_idx=0,
        )


class GivenVectors(ContentEncoder):
    """A linear map of vectors that are given for each item, such as embeddings of its text.

    Parameters
    ----------
    vectors
        float32 [items, width], by dense index.
    dim
        Width of the result.
    """

    def __init__(self, vectors: Tensor, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.map = nn.Linear(vectors.shape[1], dim)
        self.vectors: Tensor
        self.register_buffer("vectors", vectors, persistent=False)

    def encode(self, items: Tensor) -> Tensor:
        mapped: Tensor = self.map(self.vectors[items])
        return mapped


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

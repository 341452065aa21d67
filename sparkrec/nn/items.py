"""Item encoders: vectors of items, from the id, from weighted features, or from given vectors.

A sequence model works with any of them. Items are given by dense index; every encoder returns zeros
for padding (0) and unknown (1).
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
        """Map int64 items of any shape to float32 [..., dim]."""
        raise NotImplementedError


class ItemTable(ItemEncoder, Table):
    """Embeddings of items by dense index; padding (0) and unknown (1) stay at zero.

    Parameters
    ----------
    num_items
        Number of rows, including padding and unknown.
    dim
        Width of a row, without the bias.
    std
        Standard deviation of the initial weights.
    sparse
        Whether gradients are sparse, as in `PooledEmbedding`.
    bias
        Whether a row has an additional last dimension, the item's bias, which is initially zero.
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
        """Sum the embeddings of each row of items, [batch, length] to [batch, dim].

        The result is that of `self(items).sum(dim=1)`, but with a sparse table batch x length
        vectors are never in memory.
        """
        if not self.sparse:
            summed: Tensor = self(items).sum(dim=1)
            return summed
        totals: Tensor = _SparseTotals.apply(self.weight, items)
        return totals


class ContentEncoder(ItemEncoder):
    """Base of the encoders that use other data of an item than its id.

    Each distinct item of a batch is encoded once. A subclass implements `encode`.
    """

    def encode(self, items: Tensor) -> Tensor:
        """Map distinct items [n] to vectors [n, dim]; padding and unknown may be among them."""
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
        Number of rows of the feature table, including padding (0) and unknown (1), and their width.
    rows
        int64 [items, width]: table rows of each item's features, by dense index; 0 for none.
    weights
        float32 [items, width]: weight of each of them.
    std
        Standard deviation of the initial weights; 1 / sqrt(dim) by default.
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
    """Rows of a table, with a sparse gradient. `F.embedding` is five times slower in backward."""

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
    """Sums of rows of a table, with a sparse gradient that has each row once.

    The gradient of a row is the sum over all its occurrences in the batch.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, items: Tensor) -> Tensor:
        ctx.save_for_backward(items)
        ctx.shape = weight.shape
        # The reserved rows are zeros, and adding them is faster than leaving them out.
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

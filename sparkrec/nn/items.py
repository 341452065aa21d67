"""Item encoders: vectors of items, from the id, from the content, or from both.

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
        self.weight = _first_rows(num_items, dim, std, bias)
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


class MappedItems(ItemEncoder):
    """The vectors of another encoder, passed through a network: items as candidates.

    Parameters
    ----------
    items
        The encoder of items as they are read.
    network
        Maps its vectors [..., items.dim] to [..., dim].
    """

    def __init__(self, items: ItemEncoder, network: nn.Sequential) -> None:
        super().__init__()
        self.items, self.network = items, network

    def forward(self, items: Tensor) -> Tensor:
        vectors: Tensor = self.network(self.items(items))
        return vectors * (items >= RESERVED_ROWS)[..., None]


class FeatureTable(Table):
    """Embeddings of the values of items' features; padding (0) and unknown (1) stay at zero."""

    def __init__(self, num_rows: int, dim: int, std: float, sparse: bool, bias: bool) -> None:
        super().__init__()
        self.weight = _first_rows(num_rows, dim, std, bias)
        self.sparse = sparse

    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums of table rows, [items, width] to [items, dim]."""
        return F.embedding_bag(
            rows.masked_fill(rows < RESERVED_ROWS, 0),
            self.weight,
            mode="sum",
            per_sample_weights=weights,
            sparse=self.sparse,
            padding_idx=0,
        )


class ItemContent(ContentEncoder):
    """The sum of the embeddings of an item's features, a linear map of its numbers, and its id.

    Where a feature has several values, such as the words of a title, they count with the weights
    that are given with them. Items beyond the table of ids (those that were added after training)
    have their content alone.

    Parameters
    ----------
    dim
        Width of a vector, without the bias.
    num_rows
        Number of rows of the table of feature values, including padding (0) and unknown (1).
    features
        Number of features.
    floats
        Number of plain numbers of an item.
    std
        Standard deviation of the elements of a first vector that is made of content.
    sparse
        Whether the gradient of the table of feature values is sparse.
    bias
        Whether a vector has an additional last dimension, as in `ItemTable`. With `ids` it is that
        of the id alone, and 0 for an item without one: how popular an item of train is must not be
        explained by its content, which has to say who takes the item.
    ids
        Table by dense index of the same width; None for an encoder that reads the content alone.
    id_dropout
        Probability with which an item of a training batch has its content and its bias alone.
    """

    def __init__(
        self,
        dim: int,
        num_rows: int,
        features: int,
        floats: int,
        std: float,
        sparse: bool = False,
        bias: bool = False,
        ids: ItemTable | None = None,
        id_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.id_dropout = dim + int(bias), id_dropout
        assert features or floats, "an encoder of content needs some"
        first, own_bias = std * max(features, 1) ** -0.5, bias and ids is None
        self.features = FeatureTable(num_rows, dim, first, sparse, own_bias) if features else None
        self.numbers = nn.Linear(floats, dim + int(own_bias), bias=False) if floats else None
        self.ids = ids
        self.rows: Tensor
        self.weights: Tensor
        self.floats: Tensor
        # It is no weight of the model: it belongs to the items, which change.
        for name in ("rows", "weights", "floats"):
            self.register_buffer(name, torch.empty(0), persistent=False)

    def set_content(self, item_rows: Tensor, item_weights: Tensor, item_floats: Tensor) -> None:
        """Give the content of all items by dense index; that of the reserved ones is not read.

        Parameters
        ----------
        item_rows, item_weights
            int32 [items, width] and float32 [items, width]: rows of the table of feature values, 0
            for none, and their weights.
        item_floats
            float32 [items, floats].
        """
        self.rows, self.weights, self.floats = item_rows, item_weights, item_floats

    def encode(self, items: Tensor) -> Tensor:
        parts: list[Tensor] = []
        if self.features is not None:
            parts.append(self.features(self.rows[items], self.weights[items]))
        if self.numbers is not None:
            parts.append(self.numbers(self.floats[items]))
        content = torch.stack(parts).sum(dim=0)
        if self.ids is None:
            return content
        of_id = self.ids(items.masked_fill(items >= len(self.ids.weight), 0))
        vector, bias = of_id.tensor_split([content.shape[1]], dim=1)
        if self.training and self.id_dropout:
            kept = torch.rand(items.shape, device=items.device) >= self.id_dropout
            vector = vector * kept[:, None]
        return torch.cat([content + vector, bias], dim=1)


def _first_rows(rows: int, dim: int, std: float, bias: bool) -> nn.Parameter:
    """A table of random rows, zeros for the reserved ones and for the bias."""
    first = torch.randn(rows, dim) * std
    first[:RESERVED_ROWS] = 0
    return nn.Parameter(F.pad(first, (0, int(bias))))


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

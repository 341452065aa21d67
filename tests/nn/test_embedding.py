"""Embedding tables: what they sum, what they ignore, and what an optimizer may change."""

import pytest
import torch

from sparkrec.nn.embedding import RESERVED_ROWS, PooledEmbedding
from sparkrec.nn.items import ItemTable

SLICES = [(0, 1), (1, 4)]


def small_table(sparse: bool = True) -> PooledEmbedding:
    """Rows 2..5 are (2, 20), (3, 30), (4, 40), (5, 50)."""
    module = PooledEmbedding(6, 2, SLICES, sparse)
    with torch.no_grad():
        for row in range(RESERVED_ROWS, 6):
            module.weight[row] = torch.tensor([float(row), 10.0 * row])
    return module


def test_each_feature_is_the_sum_of_its_own_rows() -> None:
    module = small_table()
    pooled = module(torch.tensor([[2, 3, 4, 5], [5, 2, 2, 0]]))
    assert module.out_features == 4
    assert pooled.tolist() == [[2, 20, 12, 120], [5, 50, 4, 40]]


def test_padding_and_unknown_contribute_nothing() -> None:
    pooled = small_table()(torch.tensor([[0, 1, 3, 0], [1, 0, 0, 0], [1, 1, 1, 1]]))
    assert pooled.tolist() == [[0, 0, 3, 30], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_reserved_rows_start_at_zero_and_the_others_do_not() -> None:
    weight = PooledEmbedding(50, 8, [(0, 1)]).weight
    assert torch.all(weight[:RESERVED_ROWS] == 0)
    assert torch.all(weight[RESERVED_ROWS:].norm(dim=1) > 0)


def test_an_empty_batch_gives_an_empty_matrix() -> None:
    assert small_table()(torch.zeros((0, 4), dtype=torch.int64)).shape == (0, 4)


def test_sparse_and_dense_gradients_are_equal() -> None:
    rows = torch.tensor([[2, 3, 3, 0], [1, 2, 1, 5]])
    factors = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    gradients = []
    for sparse in (True, False):
        module = small_table(sparse)
        (module(rows) * factors).sum().backward()
        assert module.weight.grad is not None
        assert module.weight.grad.is_sparse is sparse
        gradients.append(module.weight.grad.to_dense())
    assert torch.equal(*gradients)
    # Row 2: the first feature of row 0 and the second of row 1; row 3 twice; row 4 never.
    expected = [[0, 0], [0, 0], [1 + 7, 2 + 8], [2 * 3, 2 * 4], [0, 0], [7, 8]]
    assert gradients[0].tolist() == expected


@pytest.mark.parametrize("sparse", [True, False])
def test_optimizer_steps_leave_reserved_rows_at_zero(sparse: bool) -> None:
    module = small_table(sparse)
    before = module.weight.detach().clone()
    kind = torch.optim.SparseAdam if sparse else torch.optim.AdamW
    optimizer = kind([module.weight], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.tensor([[0, 1, 2, 3], [1, 0, 0, 1]])).square().sum().backward()
        optimizer.step()
    assert torch.all(module.weight[:RESERVED_ROWS] == 0)
    assert torch.all(module.weight[2:4] != before[2:4])
    if sparse:
        assert torch.equal(module.weight[4:], before[4:])


def test_the_table_is_all_there_is_to_save() -> None:
    assert list(small_table().state_dict()) == ["weight"]


@pytest.mark.parametrize("sparse", [True, False])
def test_totals_of_items_are_the_sums_of_their_vectors(sparse: bool) -> None:
    torch.manual_seed(0)
    table = ItemTable(7, 3, 1.0, sparse)
    # An item twice in a row, reserved rows among the items, and a row without any.
    items = torch.tensor([[2, 5, 5, 0], [6, 1, 2, 3], [0, 1, 0, 0]])
    factors = torch.randn(3, 3)
    given = []
    for totals in (table.total(items), table(items).sum(dim=1)):
        table.weight.grad = None
        (totals * factors).sum().backward()
        assert table.weight.grad is not None
        assert table.weight.grad.is_sparse is sparse
        given.append((totals.detach(), table.weight.grad.to_dense()))
    torch.testing.assert_close(given[0], given[1])
    gradient = given[0][1]
    torch.testing.assert_close(gradient[5], 2 * factors[0])
    torch.testing.assert_close(gradient[2], factors[0] + factors[1])
    assert gradient[:RESERVED_ROWS].abs().sum() == gradient[4].abs().sum() == 0


def test_the_gradient_of_totals_names_an_item_once() -> None:
    table = ItemTable(7, 3, 1.0, sparse=True)
    table.total(torch.tensor([[2, 5, 5, 0], [5, 1, 2, 3]])).sum().backward()
    gradient = table.weight.grad
    assert gradient is not None and gradient._indices().tolist() == [[2, 3, 5]]


def test_totals_of_nothing() -> None:
    table = ItemTable(7, 3, 1.0, sparse=True)
    for items in (torch.zeros(2, 4, dtype=torch.int64), torch.zeros(0, 4, dtype=torch.int64)):
        table.weight.grad = None
        totals = table.total(items)
        assert totals.shape == (len(items), 3) and not totals.any()
        totals.sum().backward()
        assert table.weight.grad is not None and not table.weight.grad.to_dense().any()

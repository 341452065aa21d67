"""PooledEmbedding: what it sums, what it ignores, and what an optimizer may change."""

import pytest
import torch

from sparkrec.nn.embedding import RESERVED_ROWS, PooledEmbedding

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

"""Adagrad with momentum, Adam, rows of a table alike, and the learning rate's course."""

import pytest
import torch
from torch import nn

from sparkrec.nn.items import ItemTable
from sparkrec.training.settings import Training
from sparkrec.training.step.optimizers import (
    AdagradMomentum,
    RowAdam,
    dense_step,
    learning_rate,
    make_optimizers,
    sparse_step,
)


def test_adagrad_with_momentum_by_hand() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = AdagradMomentum([parameter], lr=0.1, momentum=0.5, eps=0.0)
    for gradient in (3.0, 4.0):
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
    # Steps: -.1 * 3 / 3; then half of that and -.1 * 4 / 5.
    assert parameter.item() == pytest.approx(1 - 0.1 - 0.05 - 0.08)


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_a_sparse_gradient_moves_its_rows_as_a_dense_one_would(momentum: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, 3, generator=generator)
    sparse, dense = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = [AdagradMomentum([p], lr=0.1, momentum=momentum) for p in (sparse, dense)]
    for _ in range(4):
        rows = torch.tensor([0, 2, 2, 5])  # a row that comes twice is summed
        values = torch.randn(4, 3, generator=generator)
        gradient = torch.sparse_coo_tensor(rows[None], values, (6, 3))
        sparse.grad, dense.grad = gradient, gradient.to_dense()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(sparse, dense, atol=1e-5)
    assert torch.equal(sparse[[1, 3, 4]], start[[1, 3, 4]])


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_the_compiled_steps_are_those_of_plain_torch(momentum: float) -> None:
    """What other devices take."""
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(6, 3))
    plain = parameter.detach().clone()
    optimizer = AdagradMomentum([parameter], lr=0.1, momentum=momentum)
    state = {name: torch.zeros(6, 3) for name in ("squares", "velocity")}
    group = {"lr": 0.1, "momentum": momentum, "eps": 1e-6}
    rows = torch.tensor([[5, 2, 2]])
    for number in range(4):
        gradient = torch.randn(6, 3)
        if number % 2:
            gradient = torch.sparse_coo_tensor(rows, torch.randn(3, 3), (6, 3))
            sparse_step(plain, gradient.coalesce(), state, group)
        else:
            dense_step(plain, gradient, state, group)
        parameter.grad = gradient
        optimizer.step()
        assert torch.allclose(parameter, plain, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_adam_by_rows_is_torchs(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    start = torch.randn(6, 3, dtype=kind)
    parameters = [nn.Parameter(start.clone()) for _ in range(2)]
    ours, torchs = RowAdam(parameters[:1], lr=0.1), torch.optim.SparseAdam(parameters[1:], lr=0.1)
    for rows in ([0, 2, 2, 5], [2], [5, 0, 5, 5], []):  # some come more than once
        values = torch.randn(len(rows), 3, dtype=kind)
        for parameter in parameters:
            where = torch.tensor([rows], dtype=torch.int64)
            parameter.grad = torch.sparse_coo_tensor(where, values, (6, 3))
        for optimizer in (ours, torchs):
            optimizer.param_groups[0]["lr"] *= 0.9
            optimizer.step()
        torch.testing.assert_close(*parameters)
    assert torch.equal(parameters[0][[1, 3, 4]], start[[1, 3, 4]])
    assert not torch.equal(parameters[0][0], start[0])


def test_adam_by_rows_goes_on_from_a_saved_state() -> None:
    torch.manual_seed(0)
    gradients = [torch.sparse_coo_tensor([[1, 3]], torch.randn(2, 2), (4, 2)) for _ in range(6)]
    parameter = nn.Parameter(torch.randn(4, 2))
    copy = nn.Parameter(parameter.detach().clone())
    whole, first, second = RowAdam([parameter], 0.1), RowAdam([copy], 0.1), RowAdam([copy], 0.1)
    for number, gradient in enumerate(gradients):
        parameter.grad = copy.grad = gradient
        whole.step()
        if number == 3:
            second.load_state_dict(first.state_dict())
        (first if number < 3 else second).step()
    assert torch.equal(parameter, copy)


def test_tables_and_layers_get_optimizers_of_their_own_where_they_must() -> None:
    network = nn.ModuleList([ItemTable(5, 2, 1.0, sparse=True), nn.Linear(2, 2)])
    adam = make_optimizers(network, Training())
    assert [type(one) for one in adam] == [RowAdam, torch.optim.AdamW]
    assert adam[0].param_groups[0]["params"] == [network[0].weight]
    (adagrad,) = make_optimizers(network, Training(optimizer="adagrad"))
    assert len(adagrad.param_groups[0]["params"]) == 3


def test_courses_of_the_learning_rate() -> None:
    steps = 100
    for schedule in ("linear", "cosine"):
        training = Training(learning_rate=1.0, schedule=schedule, warmup_steps=9)  # type: ignore[arg-type]
        course = [learning_rate(training, step, steps) for step in range(1, steps + 1)]
        assert course[:9] == pytest.approx([0.1 * step for step in range(1, 10)])
        assert course[9:] == sorted(course[9:], reverse=True)
        assert 0 < course[-1] < 0.02 and course[9] > 0.95
    assert learning_rate(Training(learning_rate=0.3), 7, 10) == 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 0.5}, "momentum can only be used with optimizer: adagrad"),
        ({"optimizer": "adagrad", "momentum": 1.0}, "momentum must be below 1"),
        ({"warmup_steps": -1}, "warmup_steps must be"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0"),
        ({"session_parallel": True, "workers": 2}, "workers must be 1"),
        ({"session_parallel": True, "warmup_steps": 5}, "warmup_steps must be 0"),
        ({"session_parallel": True, "by_session": True}, "by_session must be false"),
    ],
)
def test_mistakes(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Training(**settings)  # type: ignore[arg-type]

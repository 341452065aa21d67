"""The step of sessions side by side, forward and back by hand, against autograd."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sparkrec.models.gru4rec import GRU4Rec, GRU4RecConfig
from sparkrec.models.two_tower import TowerInput
from sparkrec.training.settings import Loss, Training
from sparkrec.training.step import session_parallel
from sparkrec.training.step.objectives import objective
from sparkrec.training.step.session_batches import session_batches
from sparkrec.training.step.session_parallel import SessionParallelLoss

FEATURES = torch.arange(10)[:, None]
COUNTS = torch.tensor([0, 0, 5, 40, 1, 9, 30, 2, 8, 5])
SESSIONS = torch.tensor([[2, 3, 4], [5, 6, 0], [7, 8, 9]])
SOFTMAX = Loss("softmax", "all", temperature=1.0)


def network(**config: object) -> GRU4Rec:
    torch.manual_seed(0)
    given = {"max_len": 3, "hidden": (4,), "embedding_dim": 4} | config
    made = GRU4Rec(
        GRU4RecConfig(**given),  # type: ignore[arg-type]
        TowerInput(2, (), 3, 10),
        TowerInput(2, (), 1, 10),
    )
    with torch.no_grad():
        made.found_items.weight[2:, -1] += 0.1 * torch.randn(8)  # biases that are not zero
    return made


def learner(model: GRU4Rec, loss: Loss = SOFTMAX) -> SessionParallelLoss:
    made = objective(model, loss, FEATURES, COUNTS, Training(session_parallel=True))
    assert isinstance(made, SessionParallelLoss)
    made.begin_epoch()
    return made


def steps(lanes: int = 2) -> Iterator[dict[str, Tensor]]:
    return session_batches([{"items": SESSIONS}], lanes)


def test_lanes_carry_their_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors of the lanes are those of each session alone, from its own beginning."""
    model = network()
    step = learner(model)
    found: dict[int, Tensor] = {}
    compute = step.contrast_gradients

    def record(queries: Tensor, vectors: Tensor, targets: Tensor, every: Tensor) -> object:
        found.update(zip(targets.tolist(), queries.detach(), strict=True))
        return compute(queries, vectors, targets, every)

    monkeypatch.setattr(step, "contrast_gradients", record)
    for batch in steps():
        step.learn(batch)
    assert step.positives == 5
    for session, length in zip(SESSIONS, (3, 2, 3), strict=True):
        alone = model.encode_windows(session[None, : length - 1])[0]
        for place in range(1, length):
            assert torch.allclose(found[int(session[place])], alone[place - 1], atol=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "config",
    [{}, {"hidden": (5, 4)}, {"constrained_embedding": False, "embedding_dim": 3, "hidden": (5,)}],
    ids=["one layer", "two layers", "two tables"],
)
@pytest.mark.parametrize(
    "loss",
    [
        SOFTMAX,
        Loss("softmax", "sampled", samples=4, temperature=0.5),
        Loss("bpr_max", "sampled", samples=4, temperature=1.0),
    ],
    ids=["xe", "sampled", "bpr-max"],
)
def test_gradients_are_those_of_autograd(
    loss: Loss, config: dict[str, object], bias: bool, sparse: bool
) -> None:
    """Of every step: the state that comes in is given, and gets no gradient."""
    model = network(bias=bias, sparse=sparse, **config)
    step = learner(model, loss)
    histories: list[list[int]] = []
    for batch in steps():
        kept = [[] if new else histories[place] for place, new in _lanes(batch)]
        histories = [
            [*past, item] for past, item in zip(kept, batch["input"].tolist(), strict=True)
        ]
        model.zero_grad()
        torch.manual_seed(1)
        value, _, _ = step.learn(batch)
        found = [parameter.grad.to_dense() for parameter in model.parameters()]
        model.zero_grad()
        torch.manual_seed(1)
        step._drawn = []
        queries = torch.stack([_last(model, history) for history in histories])
        wanted, _, _ = step.contrast(queries, batch["target"])
        (wanted * len(histories) / 2).backward()  # a lane's share of the two does not grow
        assert value.item() == pytest.approx(wanted.item(), rel=1e-5)
        step._drawn = []
        for one, parameter in zip(found, model.parameters(), strict=True):
            assert torch.allclose(one, parameter.grad.to_dense(), atol=1e-5)


def _lanes(batch: dict[str, Tensor]) -> list[tuple[int, bool]]:
    return list(zip(batch["kept"].tolist(), batch["starts"].tolist(), strict=True))


def _last(model: GRU4Rec, history: list[int]) -> Tensor:
    """The query of a history, whose gradient goes through its last step alone."""
    states: list[Tensor] = []
    for item in history:
        below = model.items(torch.tensor([item]))[:, : model.config.embedding_dim]
        after = []
        for index, layer in enumerate(model.layers):
            before = states[index].detach() if states else torch.zeros(1, layer.hidden_size)
            below = layer(below[None], before[None])[1][0]
            after.append(below)
        states = after
    return model.with_one(below)[0]


@pytest.mark.parametrize(
    ("embedding", "hidden"), [(0.5, 0.5), (0.5, 0.0), (0.0, 0.5)], ids=["both", "below", "above"]
)
def test_gradients_under_dropout(
    embedding: float, hidden: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the numbers are gone, the others doubled, forward as back, on every layer."""
    masks: list[Tensor | None] = []
    drop = session_parallel._dropped

    def record(values: Tensor, share: float) -> tuple[Tensor, Tensor | None]:
        dropped, mask = drop(values, share)
        masks.append(mask)
        return dropped, mask

    monkeypatch.setattr(session_parallel, "_dropped", record)
    model = network(hidden=(5, 4), dropout_embedding=embedding, dropout_hidden=hidden)
    step, batch = learner(model), next(steps())
    torch.manual_seed(3)
    value = step.learn(batch)[0]
    found = [parameter.grad.to_dense() for parameter in model.parameters()]
    assert [mask is not None for mask in masks] == [embedding > 0, hidden > 0, hidden > 0]
    for mask in masks:
        assert mask is None or set(mask.unique().tolist()) == {0.0, 2.0}

    def times(values: Tensor, mask: Tensor | None) -> Tensor:
        return values if mask is None else values * mask

    model.zero_grad()
    below = times(model.items(batch["input"])[:, :4], masks[0])
    for layer, mask in zip(model.layers, masks[1:], strict=True):
        below = times(layer(below[:, None])[0][:, 0], mask)
    wanted, _, _ = step.contrast(model.with_one(below), batch["target"])
    wanted.backward()
    assert value.item() == pytest.approx(wanted.item(), rel=1e-5)
    for one, parameter in zip(found, model.parameters(), strict=True):
        assert torch.allclose(one, parameter.grad.to_dense(), atol=1e-5)


def test_dropout_is_in_both_places_and_drawn_anew() -> None:
    for place in ("dropout_embedding", "dropout_hidden"):
        values = []
        for share in (0.0, 0.5, 0.5):
            step = learner(network(hidden=(64,), embedding_dim=64, **{place: share}))
            torch.manual_seed(len(values))
            values.append(step.learn(next(steps()))[0].item())
        assert len(set(values)) == 3, place


def test_dropped_numbers_stay_dropped_in_the_state() -> None:
    """What one step drops, the next one does not see."""
    step = learner(network(hidden=(64,), embedding_dim=64, dropout_hidden=0.5))
    step.learn(next(steps()))
    assert step._states is not None
    gone = (step._states[0] == 0).double().mean().item()
    assert 0.3 < gone < 0.7


def test_only_sampled_items_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are those of the candidates alone, and no other row of the table is touched."""
    model = network(sparse=True)
    step = learner(model, Loss("softmax", "sampled", samples=2, temperature=1.0))
    widths: list[int] = []
    compute = step.contrast_gradients

    def record(queries: Tensor, vectors: Tensor, targets: Tensor, every: Tensor) -> object:
        widths.append(len(vectors))
        assert torch.equal(vectors, model.found_items.weight[every])
        return compute(queries, vectors, targets, every)

    monkeypatch.setattr(step, "contrast_gradients", record)
    batch = next(steps())
    step.learn(batch)
    assert widths[0] <= 2 + 2
    gradient = model.items.weight.grad
    assert gradient is not None and gradient.is_sparse
    touched = gradient.coalesce().indices()[0]
    assert len(touched) <= widths[0] + len(batch["input"])


def test_first_weights() -> None:
    """Embeddings as wide as said, biases and reserved rows zero, gates within 1 / sqrt(width)."""
    torch.manual_seed(0)
    sides = TowerInput(2, (), 3, 5000), TowerInput(2, (), 1, 5000)
    model = GRU4Rec(GRU4RecConfig(hidden=(64,), embedding_dim=64, initial_std=0.01), *sides)
    weights = model.items.weight
    assert weights[2:, :-1].std().item() == pytest.approx(0.01, rel=0.02)
    assert weights[2:, :-1].mean().abs().item() < 1e-4
    assert not weights[:2].any() and not weights[:, -1].any()
    for parameter in model.layers.parameters():
        assert parameter.abs().max() <= 64**-0.5
        # Uniform between the two.
        assert parameter.std().item() == pytest.approx((3 * 64) ** -0.5, rel=0.1)
    wide = GRU4Rec(GRU4RecConfig(hidden=(64,), embedding_dim=64), *sides)
    assert wide.items.weight[2:, :-1].std().item() == pytest.approx(1 / 8, rel=0.02)

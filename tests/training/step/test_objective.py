"""The loss of a batch, against the scores of every pair."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkrec.models.dssm import DSSM, DSSMConfig
from sparkrec.models.gru4rec import GRU4Rec, GRU4RecConfig
from sparkrec.models.two_tower import TowerInput
from sparkrec.nn import losses
from sparkrec.training.settings import Loss, Training
from sparkrec.training.step.objective import SequenceLoss, TwoTowerLoss
from sparkrec.training.step.objectives import objective

FEATURES = torch.arange(10)[:, None]
STRICT: dict[str, Any] = {"score_regularisation": 2.0}
CONTRAST: dict[str, Any] = {"margin": 0.2, "negative_weight": 5.0}
COUNTS = torch.tensor([0, 0, 5, 40, 1, 9, 30, 2, 8, 5])


def loss_of(batch: Mapping[str, Tensor], loss: Loss) -> tuple[Tensor, Tensor, Tensor, Tensor, DSSM]:
    """Loss, scores and labels of a batch; the scores of every item for every row; the network."""
    torch.manual_seed(0)
    side = TowerInput(10, ((0, 1),))
    network = DSSM(DSSMConfig(embedding_dim=4, hidden=(4,)), side, side)
    found = TwoTowerLoss(network, loss, FEATURES, COUNTS)(batch)
    every = network.encode_users(batch["user"]) @ network.encode_items(FEATURES).T
    return *found, every / loss.temperature, network


@pytest.mark.parametrize("product_below", [0, 10_000])
def test_scores_are_those_of_each_rows_own_items(
    product_below: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways to gather the scores of distinct items."""
    monkeypatch.setattr("sparkrec.training.step.objective._PRODUCT_BELOW", product_below)
    batch = {
        "user": torch.tensor([[2], [3], [2]]),
        "item": torch.tensor([4, 5, 5]),
        "negatives": torch.tensor([[5, 6], [4, 0], [0, 0]]),
    }
    loss, scores, labels, every, _ = loss_of(batch, Loss(temperature=0.5))
    pairs = [(0, 4, 1), (1, 5, 1), (2, 5, 1), (0, 5, 0), (0, 6, 0), (1, 4, 0)]
    wanted = torch.stack([every[row, item] for row, item, _ in pairs])
    assert labels.tolist() == [label for _, _, label in pairs]
    assert torch.allclose(scores, wanted, atol=1e-5)
    # Two negatives are drawn to a positive.
    logits = wanted - math.log(2)
    whole = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)


def test_softmax_over_the_rows_own_negatives() -> None:
    batch = {
        "user": torch.tensor([[2], [3]]),
        "item": torch.tensor([4, 5]),
        "negatives": torch.tensor([[5, 6], [4, 0]]),
    }
    loss, _, _, every, _ = loss_of(batch, Loss("softmax", temperature=0.5))
    first = -every[0, [4, 5, 6]].log_softmax(0)[0]
    second = -every[1, [5, 4]].log_softmax(0)[0]
    assert loss.item() == pytest.approx((first + second).item() / 2, rel=1e-5)


def test_labelled_rows() -> None:
    batch = {
        "user": torch.tensor([[2], [3]]),
        "item": torch.tensor([4, 5]),
        "label": torch.tensor([0, 1]),
    }
    loss, scores, labels, every, _ = loss_of(batch, Loss(temperature=0.5))
    wanted = torch.stack([every[0, 4], every[1, 5]])
    assert torch.allclose(scores, wanted, atol=1e-5)
    assert labels.tolist() == [0, 1]
    whole = torch.nn.functional.binary_cross_entropy_with_logits(wanted, labels)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize("log_q", [True, False])
def test_in_batch_candidates_are_the_distinct_items_of_the_batch(log_q: bool) -> None:
    """An item that two rows share is one candidate, and never a negative of its own row."""
    batch = {
        "user": torch.tensor([[2], [3], [4], [5]]),
        "item": torch.tensor([6, 3, 6, 4]),
    }
    settings = Loss("softmax", "in_batch", temperature=0.5, log_q=log_q)
    loss, scores, labels, every, _ = loss_of(batch, settings)
    candidates = [3, 4, 6]
    total = 0.0
    for row, item in enumerate([6, 3, 6, 4]):
        logits = {}
        for candidate in candidates:
            share = int(COUNTS[candidate]) / 100
            correction = math.log(1 - (1 - share) ** 4) if log_q else 0.0
            logits[candidate] = float(every[row, candidate].detach()) - correction
        norm = math.log(sum(math.exp(value) for value in logits.values()))
        total += norm - logits[item]
    assert loss.item() == pytest.approx(total / 4, rel=1e-5)
    # The AUC compares scores as they are served, without the correction.
    assert torch.allclose(scores[:4], every[torch.arange(4), batch["item"]], atol=1e-5)
    assert labels[:4].tolist() == [1, 1, 1, 1]
    assert not labels[4:].any()


def test_a_batch_with_a_single_item_costs_nothing() -> None:
    batch = {"user": torch.tensor([[2], [3]]), "item": torch.tensor([6, 6])}
    loss, _, labels, _, network = loss_of(batch, Loss("softmax", "in_batch"))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert labels.tolist() == [1, 1]
    assert all(torch.isfinite(p.grad.to_dense()).all() for p in network.parameters())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 2 negatives to a positive.
        (Loss("bce"), lambda p, n, m: losses.bce_loss(p - math.log(2), n - math.log(2), m)),
        (Loss("bpr"), losses.bpr_loss),
        (Loss("top1"), losses.top1_loss),
        (
            Loss("bpr_max", **STRICT),
            partial(losses.bpr_max_loss, score_regularisation=2.0),
        ),
        (
            Loss("top1_max", **STRICT),
            partial(losses.top1_max_loss, score_regularisation=2.0),
        ),
        (
            Loss("bpr_max", elu=0.5, **STRICT),
            lambda p, n, m: losses.bpr_max_loss(
                F.elu(p, 0.5), F.elu(n, 0.5), m, score_regularisation=2.0
            ),
        ),
        (Loss("hinge", margin=0.3), partial(losses.hinge_loss, margin=0.3)),
        (
            Loss("ccl", margin=0.2, negative_weight=5.0),
            partial(losses.ccl_loss, margin=0.2, negative_weight=5.0),
        ),
        # 2 negatives, 8 items: a = 2/7, and beta = a (0.5 (1 - 1/a) + 1/a).
        (Loss("gbce", calibration=0.5), partial(losses.gbce_loss, beta=0.5 + 0.5 * 2 / 7)),
    ],
    ids=lambda value: value.name if isinstance(value, Loss) else "",
)
def test_every_loss_gets_its_settings(settings: Loss, expected: Callable[..., Tensor]) -> None:
    batch = {
        "user": torch.tensor([[2], [3]]),
        "item": torch.tensor([4, 5]),
        "negatives": torch.tensor([[5, 6], [4, 0]]),
    }
    loss, _, _, every, _ = loss_of(batch, settings)
    mask = torch.tensor([[True, True], [True, False]])
    negative = torch.stack([every[0, [5, 6]], every[1, [4, 0]]])
    positive = torch.stack([every[0, 4], every[1, 5]])
    assert loss.item() == pytest.approx(expected(positive, negative, mask).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["bce", "gbce"])
def test_bce_has_no_in_batch_negatives(name: Any) -> None:
    with pytest.raises(ValueError, match=f"in_batch cannot be used with name: {name}"):
        Loss(name, "in_batch")


# -------------------------------------------------------------------- items that all rows share

BATCH = {"user": torch.tensor([[2], [3], [4]]), "item": torch.tensor([4, 5, 4])}


def test_softmax_over_all_items() -> None:
    loss, scores, labels, every, _ = loss_of(BATCH, Loss("softmax", "all", temperature=0.5))
    wanted = torch.nn.functional.cross_entropy(every[:, 2:], BATCH["item"] - 2)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    own = every.gather(1, BATCH["item"][:, None])[:, 0]
    assert torch.allclose(scores[labels == 1], own, atol=1e-5)


@pytest.mark.parametrize("name", ["bce", "gbce"])
def test_a_row_own_item_is_none_of_its_negatives(name: Any) -> None:
    """Of the 8 items 7 are negatives: beta is 1 whatever the calibration, the odds are log 7."""
    loss, _, _, every, _ = loss_of(BATCH, Loss(name, "all", temperature=0.5, calibration=0.3))
    mask = torch.arange(2, 10) != BATCH["item"][:, None]
    scores = every[:, 2:] - (math.log(7) if name == "bce" else 0.0)
    positive = scores.gather(1, BATCH["item"][:, None] - 2)[:, 0]
    assert loss.item() == pytest.approx(losses.bce_loss(positive, scores, mask).item(), rel=1e-5)


@pytest.mark.parametrize("log_q", [True, False])
def test_softmax_over_sampled_items(log_q: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws 6, 7, 6 for everyone, beside the items of the batch, each once."""
    drawn = torch.tensor([6, 7, 6])
    monkeypatch.setattr("sparkrec.training.step.objective.Objective._draw", lambda self: drawn)
    settings = Loss("softmax", "sampled", samples=3, alpha=0.5, temperature=0.5, log_q=log_q)
    loss, _, _, every, _ = loss_of(BATCH, settings)
    correction = torch.zeros(10)
    if log_q:
        weights = torch.where(COUNTS > 0, COUNTS**0.5, 0.0).double()
        not_drawn = (1 - weights / weights.sum()) ** 3
        correction = torch.log(1 - (1 - COUNTS / COUNTS.sum()) ** 3 * not_drawn).float()
    corrected = (every - correction)[:, [4, 5, 6, 7]]
    wanted = torch.nn.functional.cross_entropy(corrected, BATCH["item"] - 4)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_half_precision_is_close_and_no_more() -> None:
    """Vectors and losses are float32 again, and so are the gradients."""
    side = TowerInput(10, ((0, 1),))
    torch.manual_seed(0)
    network = DSSM(DSSMConfig(embedding_dim=16, hidden=(16,)), side, side)
    found = []
    for half in (False, True):
        settings = Loss("softmax", "in_batch", temperature=0.5)
        loss, scores, _ = TwoTowerLoss(network, settings, FEATURES, COUNTS, half)(BATCH)
        network.zero_grad()
        loss.backward()
        dense = next(p.grad for p in network.parameters() if not p.grad.is_sparse)
        assert loss.dtype == scores.dtype == dense.dtype == torch.float32
        found.append(loss.item())
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.01)


def test_samples_follow_popularity_and_never_name_what_train_lacks() -> None:
    side = TowerInput(10, ((0, 1),))
    network = DSSM(DSSMConfig(embedding_dim=4, hidden=(4,)), side, side)
    settings = Loss("softmax", "sampled", samples=5000, alpha=1.0)
    torch.manual_seed(0)
    step = TwoTowerLoss(network, settings, FEATURES, COUNTS)
    found = torch.cat([step._draw() for _ in range(100)])
    share = torch.bincount(found, minlength=10) / len(found)
    assert torch.allclose(share, COUNTS / COUNTS.sum(), atol=0.003)
    assert share[:2].sum() == 0


# ----------------------------------------------------------------------------- sequence models

WINDOWS = torch.tensor([[2, 5, 7, 3], [9, 4, 0, 0]])


def small_gru() -> GRU4Rec:
    torch.manual_seed(0)
    config = GRU4RecConfig(max_len=3, hidden=(4,), embedding_dim=4)
    return GRU4Rec(config, TowerInput(2, (), 3, 10), TowerInput(2, (), 1, 10))


def test_every_step_of_a_window_is_trained_and_padding_is_not() -> None:
    network = small_gru()
    step = objective(network, Loss("softmax", "all", temperature=1.0), FEATURES, None, Training())
    assert isinstance(step, SequenceLoss)
    loss, _, _ = step({"items": WINDOWS})
    states = network.encode_windows(WINDOWS[:, :-1])
    scores = states @ network.encode_items(FEATURES[2:]).T
    pairs = [(0, 0, 5), (0, 1, 7), (0, 2, 3), (1, 0, 4)]
    rows = torch.stack([scores[row, place] for row, place, _ in pairs])
    targets = torch.tensor([target for _, _, target in pairs]) - 2
    wanted = torch.nn.functional.cross_entropy(rows, targets)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert step.positives == 4


def test_an_item_is_predicted_from_the_items_before_its_session() -> None:
    network = small_gru()
    step = objective(network, Loss("softmax", "all", temperature=1.0), FEATURES, None, Training())
    # Sessions {2}, {5, 7}, {3}; {9, 4} of the second window is one session.
    before = torch.tensor([[0, 1, 1, 3], [0, 0, 0, 0]])
    loss, _, _ = step({"items": WINDOWS, "before": before})
    states = network.encode_windows(WINDOWS[:, :-1])
    scores = states @ network.encode_items(FEATURES[2:]).T
    rows = scores[0, [0, 0, 2]]
    wanted = torch.nn.functional.cross_entropy(rows, torch.tensor([5, 7, 3]) - 2)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert step.positives == 3


# --------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        (Loss("softmax", "in_batch", log_q=False, temperature=0.5), {}),
        (Loss("bpr", "all"), {}),
        (Loss("bce"), {"negatives": torch.tensor([[5, 6], [6, 7], [7, 8]])}),
        (Loss("ccl"), {"negatives": torch.tensor([[5, 6], [6, 7], [7, 8]])}),
        (Loss("bce"), {"label": torch.tensor([1, 0, 1])}),
    ],
)
def test_rows_count_by_their_weight(settings: Loss, more: dict[str, Tensor]) -> None:
    """The sum of the losses of rows that have all the weight, one after another."""
    batch = {**BATCH, **more}
    plain = loss_of(batch, settings)[0].item()
    ones = loss_of({**batch, "weight": torch.ones(3, dtype=torch.float64)}, settings)[0]
    assert ones.dtype == torch.float32 and ones.item() == pytest.approx(plain, rel=1e-6)
    alone = [loss_of({**batch, "weight": row.double()}, settings)[0].item() for row in torch.eye(3)]
    assert sum(alone) == pytest.approx(plain, rel=1e-5) and len(set(alone)) == 3
    weight = torch.tensor([0.5, 0.0, 4.0], dtype=torch.float64)
    found = loss_of({**batch, "weight": weight}, settings)[0].item()
    assert found == pytest.approx(0.5 * alone[0] + 4 * alone[2], rel=1e-4)


def test_a_step_of_a_window_has_the_weight_of_the_event_that_follows() -> None:
    network = small_gru()
    settings = Loss("softmax", "all", temperature=1.0)
    step = objective(network, settings, FEATURES, None, Training())
    plain = step({"items": WINDOWS})[0].item()
    weights = torch.tensor([[9.0, 2.0, 0.0, 0.0], [9.0, 0.0, 9.0, 9.0]], dtype=torch.float64)
    found = step({"items": WINDOWS, "weights": weights})[0].item()
    # Four steps are trained; of these only the first one of the first window has a weight.
    scores = network.encode_windows(WINDOWS[:, :-1])[0, 0] @ network.encode_items(FEATURES[2:]).T
    wanted = F.cross_entropy(scores[None], torch.tensor([5 - 2])).item()
    assert found == pytest.approx(2 * wanted / 4, rel=1e-5) and found != plain

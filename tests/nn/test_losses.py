"""Losses against values computed by hand."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from sparkrec.nn.losses import (
    bce_loss,
    bpr_loss,
    bpr_max_loss,
    ccl_loss,
    gbce_beta,
    gbce_loss,
    hinge_loss,
    labelled_bce_loss,
    log_not_drawn,
    log_q,
    softmax_loss,
    top1_loss,
    top1_max_loss,
)


def cross_entropy(score: float, label: int) -> float:
    probability = 1 / (1 + math.exp(-score))
    return -math.log(probability if label else 1 - probability)


def test_bce_is_the_mean_over_all_pairs() -> None:
    positive = torch.tensor([2.0, -1.0])
    negative = torch.tensor([[0.5, -3.0], [1.0, 0.0]])
    pairs = [(2.0, 1), (-1.0, 1), (0.5, 0), (-3.0, 0), (1.0, 0), (0.0, 0)]
    expected = sum(cross_entropy(score, label) for score, label in pairs) / 6
    assert bce_loss(positive, negative).item() == pytest.approx(expected, rel=1e-5)


def test_bce_of_zero_scores_is_the_logarithm_of_two() -> None:
    loss = bce_loss(torch.zeros(3), torch.zeros(3, 5))
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)


def test_masked_negatives_do_not_count() -> None:
    positive = torch.tensor([2.0, -1.0])
    negative = torch.tensor([[0.5, 100.0], [100.0, 100.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [False, False]])
    pairs = [(2.0, 1), (-1.0, 1), (0.5, 0)]
    expected = sum(cross_entropy(score, label) for score, label in pairs) / 3
    loss = bce_loss(positive, negative, mask)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert negative.grad is not None
    assert torch.equal(negative.grad != 0, mask)


def test_a_full_mask_is_no_mask() -> None:
    positive, negative = torch.randn(4), torch.randn(4, 3)
    whole = bce_loss(positive, negative, torch.ones(4, 3, dtype=torch.bool))
    assert whole.item() == pytest.approx(bce_loss(positive, negative).item(), rel=1e-5)


def test_bce_stays_finite_for_extreme_scores() -> None:
    loss = bce_loss(torch.tensor([-500.0]), torch.tensor([[500.0]]))
    assert loss.item() == pytest.approx(500)


def test_labelled_bce() -> None:
    scores = torch.tensor([1.5, -0.5, 3.0])
    labels = torch.tensor([1.0, 0.0, 0.0])
    pairs = [(1.5, 1), (-0.5, 0), (3.0, 0)]
    expected = sum(cross_entropy(score, label) for score, label in pairs) / 3
    assert labelled_bce_loss(scores, labels).item() == pytest.approx(expected, rel=1e-5)


def test_both_losses_agree_on_the_same_pairs() -> None:
    positive, negative = torch.randn(3), torch.randn(3, 2)
    scores = torch.cat([positive, negative.reshape(-1)])
    labels = torch.cat([torch.ones(3), torch.zeros(6)])
    sampled = bce_loss(positive, negative).item()
    assert sampled == pytest.approx(labelled_bce_loss(scores, labels).item(), rel=1e-5)


def test_softmax_by_hand() -> None:
    positive = torch.tensor([2.0, -1.0])
    negative = torch.tensor([[0.5, -3.0], [1.0, 0.0]])
    rows = [(2.0, (0.5, -3.0)), (-1.0, (1.0, 0.0))]
    expected = [
        -math.log(math.exp(good) / (math.exp(good) + sum(math.exp(bad) for bad in others)))
        for good, others in rows
    ]
    assert softmax_loss(positive, negative).item() == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_softmax_leaves_masked_negatives_out() -> None:
    positive = torch.tensor([2.0, -1.0])
    negative = torch.tensor([[0.5, 100.0], [100.0, 100.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [False, False]])
    loss = softmax_loss(positive, negative, mask)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1.5)) / 2, rel=1e-5)
    loss.backward()
    assert negative.grad is not None
    assert torch.equal(negative.grad != 0, mask)


def test_softmax_stays_finite_for_extreme_scores() -> None:
    loss = softmax_loss(torch.tensor([-500.0]), torch.tensor([[500.0]]))
    assert loss.item() == pytest.approx(1000)


def test_log_q_is_the_chance_to_be_in_the_batch() -> None:
    found = log_q(2 * log_not_drawn(torch.tensor([1, 3, 6]))).exp()
    assert found.tolist() == pytest.approx([1 - 0.9**2, 1 - 0.7**2, 1 - 0.4**2], rel=1e-5)


def test_log_q_of_rare_and_of_only_items() -> None:
    rare = log_q(1000 * log_not_drawn(torch.tensor([0, 1, 10**12 - 1])))
    assert rare[:2].tolist() == pytest.approx([math.log(1000 / 1e12)] * 2, rel=1e-5)
    assert rare[2].item() == pytest.approx(0, abs=1e-6)


# ------------------------------------------------- the others, against plain Python on odd numbers

POSITIVE = [0.7, -1.2, 2.0, 0.1]
NEGATIVE = [[0.3, -0.4, 1.1], [0.9, -2.0, 0.0], [1.9, 2.5, -1.0], [5.0, 5.0, 5.0]]
MASK = [[True, True, True], [True, False, True], [False, False, True], [False, False, False]]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def kept(row: int) -> list[float]:
    return [n for n, counts in zip(NEGATIVE[row], MASK[row], strict=True) if counts]


def shares(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def pairs() -> list[tuple[float, float]]:
    return [(p, n) for row, p in enumerate(POSITIVE) for n in kept(row)]


def bpr_max_row(p: float, negatives: list[float], weight: float) -> float:
    s = shares(negatives)
    win = sum(a * sigmoid(p - n) for a, n in zip(s, negatives, strict=True))
    return -math.log(win) + weight * sum(a * n * n for a, n in zip(s, negatives, strict=True))


def top1_max_row(p: float, negatives: list[float], weight: float) -> float:
    s = shares(negatives)
    return sum(
        a * (sigmoid(n - p) + weight * sigmoid(n * n)) for a, n in zip(s, negatives, strict=True)
    )


def ccl_row(p: float, negatives: list[float], margin: float, weight: float) -> float:
    above = [max(0.0, n - margin) for n in negatives]
    return 1 - p + weight * sum(above) / max(len(above), 1)


def by_row(value: Callable[..., float], *settings: float) -> float:
    return sum(value(p, kept(row), *settings) for row, p in enumerate(POSITIVE[:3])) / 4


def by_pair(value: Callable[[float, float], float]) -> float:
    return sum(value(p, n) for p, n in pairs()) / len(pairs())


CASES: dict[str, tuple[Callable[..., Tensor], float]] = {
    "bpr": (bpr_loss, by_pair(lambda p, n: -math.log(sigmoid(p - n)))),
    "top1": (top1_loss, by_pair(lambda p, n: sigmoid(n - p) + sigmoid(n * n))),
    "hinge": (partial(hinge_loss, margin=0.8), by_pair(lambda p, n: max(0.0, 0.8 - p + n))),
    "bpr_max": (
        partial(bpr_max_loss, score_regularisation=1.95),
        by_row(bpr_max_row, 1.95),
    ),
    "top1_max": (
        partial(top1_max_loss, score_regularisation=0.5),
        by_row(top1_max_row, 0.5),
    ),
    "ccl": (
        partial(ccl_loss, margin=0.4, negative_weight=3.0),
        by_row(ccl_row, 0.4, 3.0) + ccl_row(POSITIVE[3], [], 0.4, 3.0) / 4,
    ),
    "gbce": (
        partial(gbce_loss, beta=0.3),
        (
            sum(-0.3 * math.log(sigmoid(p)) for p in POSITIVE)
            + sum(-math.log(1 - sigmoid(n)) for _, n in pairs())
        )
        / (4 + len(pairs())),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_by_hand_where_some_negatives_do_not_count(name: str) -> None:
    loss, expected = CASES[name]
    positive = torch.tensor(POSITIVE, dtype=torch.float64, requires_grad=True)
    negative = torch.tensor(NEGATIVE, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor(MASK)
    found = loss(positive, negative, mask)
    assert found.item() == pytest.approx(expected, rel=1e-9)
    found.backward()
    assert negative.grad is not None and positive.grad is not None
    assert not negative.grad[~mask].any()
    assert torch.isfinite(positive.grad).all()


@pytest.mark.parametrize("name", CASES)
def test_without_a_mask_all_negatives_count(name: str) -> None:
    loss, _ = CASES[name]
    positive, negative = torch.tensor(POSITIVE), torch.tensor(NEGATIVE)
    every = torch.ones(negative.shape, dtype=torch.bool)
    whole = loss(positive, negative).item()
    assert whole == pytest.approx(loss(positive, negative, every).item(), rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_formula(name: str) -> None:
    loss, _ = CASES[name]
    positive = torch.tensor(POSITIVE, dtype=torch.float64, requires_grad=True)
    negative = torch.tensor(NEGATIVE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda p, n: loss(p, n, torch.tensor(MASK)), (positive, negative)
    )


@pytest.mark.parametrize("name", [name for name in CASES if name != "ccl"])
def test_extreme_scores_stay_finite(name: str) -> None:
    """The square of a score is what `bpr_max` takes; the rest is bounded or linear."""
    loss, _ = CASES[name]
    positive = torch.tensor([-300.0], requires_grad=True)
    found = loss(positive, torch.tensor([[300.0, -300.0]]))
    found.backward()
    assert torch.isfinite(found) and positive.grad is not None
    assert torch.isfinite(positive.grad).all()


def test_gbce_beta() -> None:
    """Without calibration it is 1, plain bce; with all of it, the share of items drawn."""
    assert gbce_beta(256, 3417, 0.0) == pytest.approx(1)
    assert gbce_beta(256, 3417, 1.0) == pytest.approx(256 / 3416)
    assert gbce_beta(256, 3417, 0.75) == pytest.approx(0.25 + 0.75 * 256 / 3416)


def test_harder_negatives_weigh_more_in_bpr_max() -> None:
    negative = torch.tensor([[2.0, -2.0]], requires_grad=True)
    bpr_max_loss(torch.tensor([0.0]), negative, score_regularisation=0.0).backward()
    assert negative.grad is not None
    assert negative.grad[0, 0] > 10 * negative.grad[0, 1].abs()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "loss",
    [
        *(bce_loss, softmax_loss, bpr_loss, top1_loss, bpr_max_loss, top1_max_loss, hinge_loss),
        partial(gbce_loss, beta=0.4),
        partial(ccl_loss, margin=0.2, negative_weight=3.0),
    ],
)
def test_a_row_of_weight_two_is_two_rows(loss: Callable[..., Tensor], masked: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    positive = torch.randn(4, generator=generator)
    negative = torch.randn(4, 3, generator=generator)
    mask = torch.rand(4, 3, generator=generator) > 0.3 if masked else None
    if masked:
        mask[:, 0] = True
    assert loss(positive, negative, mask, torch.ones(4)).item() == pytest.approx(
        loss(positive, negative, mask).item(), rel=1e-6
    )
    # Rows 0 and 0 in place of 0 and 1; the divisor of weighted rows is that of the four rows.
    weighed = loss(positive, negative, mask, torch.tensor([2.0, 0.0, 1.0, 1.0]))
    twice = torch.tensor([0, 0, 2, 3])
    terms = 4 if mask is None else int(mask.sum())
    of_twice = 4 if mask is None else int(mask[twice].sum())
    pairs = loss not in (softmax_loss, bpr_max_loss, top1_max_loss) and "ccl" not in str(loss)
    extra = 4 if "bce" in str(loss) else 0
    scale = (terms + extra) / (of_twice + extra) if pairs and masked else 1.0
    repeated = loss(positive[twice], negative[twice], None if mask is None else mask[twice])
    assert weighed.item() == pytest.approx(repeated.item() / scale, rel=1e-5)


def test_labelled_bce_with_weights() -> None:
    scores, labels = torch.tensor([1.5, -0.5, 3.0]), torch.tensor([1.0, 0.0, 0.0])
    expected = (2 * cross_entropy(1.5, 1) + 0.5 * cross_entropy(3.0, 0)) / 3
    found = labelled_bce_loss(scores, labels, torch.tensor([2.0, 0.0, 0.5]))
    assert found.item() == pytest.approx(expected, rel=1e-5)

"""Losses against values computed by hand."""

import math

import pytest
import torch

from sparkrec.nn.losses import bce_loss, labelled_bce_loss


def cross_entropy(score: float, label: int) -> float:
    probability = 1 / (1 + math.exp(-score))
    return -math.log(probability if label else 1 - probability)


def test_bce_is_the_mean_over_all_pairs() -> None:
    positive = torch.tensor([2.0, -1.0])
    negative = torch.tensor([[0.5, -3.0], [1.0, 0.0]])
    pairs = [(2.0, 1), (-1.0, 1), (0.5, 0), (-3.0, 0), (1.0, 0), (0.0, 0)]
    expected = sum(cross_entropy(score, label) for score, label in pairs) / 6
    assert bce_loss(positive, negative).item() == pytest.approx(expected, rel=1e-6)


def test_bce_of_zero_scores_is_the_logarithm_of_two() -> None:
    loss = bce_loss(torch.zeros(3), torch.zeros(3, 5))
    assert loss.item() == pytest.approx(math.log(2))


def test_masked_negatives_do_not_count() -> None:
    positive = torch.tensor([2.0, -1.0])
    negative = torch.tensor([[0.5, 100.0], [100.0, 100.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [False, False]])
    pairs = [(2.0, 1), (-1.0, 1), (0.5, 0)]
    expected = sum(cross_entropy(score, label) for score, label in pairs) / 3
    loss = bce_loss(positive, negative, mask)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert negative.grad is not None
    assert torch.equal(negative.grad != 0, mask)


def test_a_full_mask_is_no_mask() -> None:
    positive, negative = torch.randn(4), torch.randn(4, 3)
    whole = bce_loss(positive, negative, torch.ones(4, 3, dtype=torch.bool))
    assert whole.item() == pytest.approx(bce_loss(positive, negative).item())


def test_bce_stays_finite_for_extreme_scores() -> None:
    loss = bce_loss(torch.tensor([-500.0]), torch.tensor([[500.0]]))
    assert loss.item() == pytest.approx(500)


def test_labelled_bce() -> None:
    scores = torch.tensor([1.5, -0.5, 3.0])
    labels = torch.tensor([1.0, 0.0, 0.0])
    pairs = [(1.5, 1), (-0.5, 0), (3.0, 0)]
    expected = sum(cross_entropy(score, label) for score, label in pairs) / 3
    assert labelled_bce_loss(scores, labels).item() == pytest.approx(expected, rel=1e-6)


def test_both_losses_agree_on_the_same_pairs() -> None:
    positive, negative = torch.randn(3), torch.randn(3, 2)
    scores = torch.cat([positive, negative.reshape(-1)])
    labels = torch.cat([torch.ones(3), torch.zeros(6)])
    sampled = bce_loss(positive, negative).item()
    assert sampled == pytest.approx(labelled_bce_loss(scores, labels).item(), rel=1e-6)

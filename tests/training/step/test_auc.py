"""The streaming AUC against a brute force and by hand."""

import numpy as np
import pytest
import torch

from sparkrec.training.step.auc import StreamingAUC


def brute_force_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    positive, negative = scores[labels == 1][:, None], scores[labels == 0][None]
    return float(((positive > negative) + 0.5 * (positive == negative)).mean())


def test_streaming_auc() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000)
    scores = rng.normal(labels * 1.0, 1.0).round(1)  # rounded, so that there are ties
    auc = StreamingAUC()
    for start in range(0, 3000, 700):
        part = slice(start, start + 700)
        auc.update(torch.from_numpy(scores[part]), torch.from_numpy(labels[part]))
    assert auc.value() == pytest.approx(brute_force_auc(scores, labels), abs=1e-3)


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([2.0, 1.0, -1.0], [1, 0, 0], 1.0),
        ([-2.0, 1.0, 3.0], [1, 0, 0], 0.0),
        ([0.0, 0.0], [1, 0], 0.5),
        ([90.0, -90.0], [1, 0], 1.0),
        ([1.0, 2.0], [1, 1], 0.5),
    ],
)
def test_auc_by_hand(scores: list[float], labels: list[int], expected: float) -> None:
    auc = StreamingAUC()
    assert auc.value() == 0.5
    auc.update(torch.tensor(scores), torch.tensor(labels))
    assert auc.value() == pytest.approx(expected)

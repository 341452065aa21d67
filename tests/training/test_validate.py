"""The validation metric by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sparkrec.training import validate
from sparkrec.training.validate import Validation


class FixedScores(torch.nn.Module):
    """An item's vector is one-hot, and a query's row number selects its scores."""

    scores = torch.tensor([[0.9, 0.5, 0.7, 0.1], [0.2, 0.8, 0.8, 0.8], [0.4, 0.3, 0.2, 0.1]])

    def encode_users(self, features: Tensor) -> Tensor:
        return self.scores[features[:, 0]]

    def encode_items(self, features: Tensor) -> Tensor:
        return torch.eye(4)[features[:, 0] - 2]


def measure(
    metric: str, targets: list[int], counts: list[int] | None = None, **more: Tensor
) -> float:
    counts = counts or [1, 1, 1]
    tensors = {
        "queries": torch.arange(3)[:, None],
        "targets": torch.tensor(targets),
        "target_offsets": torch.tensor([0, *counts]).cumsum(0),
        "candidates": torch.arange(2, 6),
        **more,
    }
    return Validation(tensors, metric).measure(FixedScores(), torch.arange(6)[:, None])


def test_validation_by_hand() -> None:
    # Item 4 is second for query 0; item 3 ties with two others for query 1, so it is third; item
    # 5 is last for query 2.
    targets = [4, 3, 5]
    assert measure("recall@1", targets) == 0
    assert measure("recall@2", targets) == pytest.approx(1 / 3)
    assert measure("recall@3", targets) == pytest.approx(2 / 3)
    assert measure("recall@4", targets) == 1
    gains = [1 / np.log2(3), 1 / np.log2(4), 1 / np.log2(5)]
    assert measure("ndcg@3", targets) == pytest.approx(sum(gains[:2]) / 3)
    assert measure("ndcg@9", targets) == pytest.approx(sum(gains) / 3)


def test_several_relevant_items_of_a_query_are_weighed_as_the_evaluator_weighs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Ranks of query 0's two: 1 and 2; of query 1's three, which tie: 3; query 2's one: 1.
    targets, counts = [2, 4, 3, 4, 5, 2], [2, 3, 1]
    recall = (1 + 0 + 1) / 3
    gains = [1, 1 / np.log2(3), 1 / np.log2(4)]
    ndcg = (1 + 3 * gains[2] / sum(gains) + 1) / 3
    # Also where a query's relevant items fall into several chunks.
    for chunk in (1024, 3, 1):
        monkeypatch.setattr(validate, "_CHUNK_TARGETS", chunk)
        assert measure("recall@2", targets, counts) == pytest.approx(recall)
        assert measure("recall@3", targets, counts) == pytest.approx(1)
        assert measure("ndcg@2", targets, counts) == pytest.approx(recall)
        assert measure("ndcg@3", targets, counts) == pytest.approx(ndcg)
        assert measure("ndcg@9", targets, counts) == pytest.approx(ndcg)


def test_validation_leaves_out_seen_items_and_counts_a_seen_target_as_a_miss() -> None:
    seen = {"seen": torch.tensor([2, 1, 4, 5, 5]), "seen_offsets": torch.tensor([0, 2, 4, 5])}
    # Query 0 has seen item 2 (and a stranger), query 1 items 4 and 5, query 2 its own target.
    assert measure("recall@1", [4, 3, 5], **seen) == pytest.approx(2 / 3)
    assert measure("recall@9", [4, 3, 5], **seen) == pytest.approx(2 / 3)


def test_a_target_that_is_no_candidate_is_a_miss() -> None:
    assert measure("recall@9", [1, 0, 2]) == pytest.approx(1 / 3)
    assert measure("recall@9", [4, 3, 5], candidates=torch.tensor([2, 4])) == pytest.approx(1 / 3)


def chance(metric: str, targets: list[int], items: int = 10, **more: Tensor) -> float | None:
    """Chance for queries with one relevant item each; items begin at 2."""
    tensors = {
        "queries": torch.arange(len(targets))[:, None],
        "targets": torch.tensor(targets),
        "target_offsets": torch.arange(len(targets) + 1),
        "candidates": torch.arange(2, items + 2),
        **more,
    }
    found = Validation(tensors, metric).chance()
    return found[0] if found else None


def test_chance_by_hand() -> None:
    targets = [3] * 100
    assert chance("recall@2", targets) == pytest.approx(2 / 10)
    assert chance("ndcg@2", targets) == pytest.approx((1 + 1 / np.log2(3)) / 10)
    # Half of the relevant items are not among those that are ranked.
    assert chance("recall@2", [3, 99] * 50) == pytest.approx(1 / 10)
    # Five items are not ranked, because they were seen.
    seen = {"seen": torch.arange(500) % 5 + 4, "seen_offsets": torch.arange(101) * 5}
    assert chance("recall@2", targets, **seen) == pytest.approx(2 / 5)


def test_chance_of_many_relevant_items_is_what_random_orders_give() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.arange(4000) % 3 + 1
    targets = torch.cat([torch.randperm(12, generator=generator)[:n] + 2 for n in counts])
    scores = torch.rand((4000, 12), generator=generator)

    class Random(torch.nn.Module):
        def encode_users(self, features: Tensor) -> Tensor:
            return scores[features[:, 0]]

        def encode_items(self, features: Tensor) -> Tensor:
            return torch.eye(12)[features[:, 0] - 2]

    tensors = {
        "queries": torch.arange(4000)[:, None],
        "targets": targets,
        "target_offsets": torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]),
        "candidates": torch.arange(2, 14),
    }
    for metric in ("recall@3", "ndcg@3"):
        validation = Validation(tensors, metric)
        draws = []
        for _ in range(200):
            scores.copy_(torch.rand((4000, 12), generator=generator))
            draws.append(validation.measure(Random(), torch.arange(14)[:, None]))
        mean, error = validation.chance() or (0.0, 0.0)
        assert np.mean(draws) == pytest.approx(mean, abs=4 * error / np.sqrt(len(draws)))
        assert np.std(draws) == pytest.approx(error, rel=0.2)


def test_no_chance_where_a_split_cannot_tell() -> None:
    assert chance("recall@2", [3] * 99) is None
    assert chance("recall@10", [3] * 100) is None
    assert chance("recall@9", [3] * 100) == pytest.approx(0.9)

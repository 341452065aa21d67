"""SimpleX and HRM by their equations: a user and a pooled history."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkrec.models.hrm import HRM, HRMConfig
from sparkrec.models.simplex import SimpleX, SimpleXConfig
from sparkrec.models.two_tower import TowerInput

USER, ITEM = TowerInput(6, ((0, 1), (1, 2)), 3, 7), TowerInput(2, (), 1, 7)
# Three recent items, then two user features.
FEATURES = torch.tensor([[2, 5, 0, 3, 4], [6, 0, 0, 2, 1], [0, 0, 0, 5, 5], [4, 3, 2, 1, 1]])
NOTHING = torch.tensor([[0, 0, 0, 1, 1]])


def simplex(**settings: Any) -> SimpleX:
    torch.manual_seed(0)
    return SimpleX(
        SimpleXConfig(**{"max_len": 3, "embedding_dim": 4, **settings}), USER, ITEM
    ).eval()


def hrm(**settings: Any) -> HRM:
    torch.manual_seed(0)
    return HRM(HRMConfig(**{"max_len": 3, "embedding_dim": 4, **settings}), USER, ITEM).eval()


def own_vectors(network: SimpleX | HRM, row: Tensor) -> list[Tensor]:
    """The embeddings of a row's user features; padding and unknown have none."""
    table = network.user_embedding.weight
    return [table[value] if value > 1 else torch.zeros(4) for value in row[3:]]


def item_vectors(network: SimpleX | HRM, row: Tensor) -> Tensor:
    return network.items.weight[row[:3][row[:3] != 0]]


def test_simplex_mixes_the_user_with_the_mean_of_the_history() -> None:
    network = simplex(user_weight=0.3)
    found = network.encode_users(FEATURES)
    for row, vector in zip(FEATURES, found, strict=True):
        own = sum(own_vectors(network, row), torch.zeros(4))
        items = item_vectors(network, row)
        mean = items.mean(dim=0) if len(items) else torch.zeros(4)
        wanted = 0.3 * own + 0.7 * network.mix.weight @ mean
        assert torch.allclose(vector, F.normalize(wanted, dim=0), atol=1e-5)


@pytest.mark.parametrize("aggregation", ["self_attention", "user_attention"])
def test_simplex_attention(aggregation: str) -> None:
    network = simplex(aggregation=aggregation)
    found = network.encode_users(FEATURES)
    for row, vector in zip(FEATURES, found, strict=True):
        own = sum(own_vectors(network, row), torch.zeros(4))
        items, pooled = item_vectors(network, row), torch.zeros(4)
        if len(items):
            query = network.query if aggregation == "self_attention" else own
            logits = torch.stack([query @ torch.tanh(network.attention(item)) for item in items])
            pooled = torch.softmax(logits, dim=0) @ items
        wanted = 0.5 * own + 0.5 * network.mix.weight @ pooled
        assert torch.allclose(vector, F.normalize(wanted, dim=0), atol=1e-5)


def pool(vectors: list[Tensor], how: str) -> Tensor:
    if not vectors:
        return torch.zeros(4)
    stacked = torch.stack(vectors)
    return {"mean": stacked.mean(0), "sum": stacked.sum(0), "max": stacked.amax(0)}[how]


@pytest.mark.parametrize("item_pooling", ["mean", "max", "sum"])
@pytest.mark.parametrize("user_pooling", ["mean", "max", "sum"])
def test_hrm_pools_twice(item_pooling: str, user_pooling: str) -> None:
    network = hrm(item_pooling=item_pooling, user_pooling=user_pooling, cosine=False)
    found = network.encode_users(FEATURES)
    for row, vector in zip(FEATURES, found, strict=True):
        parts = [own for own in own_vectors(network, row) if own.any()]
        items = list(item_vectors(network, row))
        if items:
            parts = [pool(items, item_pooling), *parts]
        assert torch.allclose(vector, pool(parts, user_pooling), atol=1e-5)


@pytest.mark.parametrize("make", [simplex, hrm, lambda: hrm(item_pooling="max")])
def test_unit_vectors_and_zeros_where_nothing_is_known(make: Any) -> None:
    network = make()
    norms = network.encode_users(FEATURES).norm(dim=1)
    assert torch.allclose(norms, torch.ones(len(norms)), atol=1e-5)
    assert network.encode_users(NOTHING).abs().sum() == 0
    items = network.encode_items(torch.tensor([[0], [1], [2], [6]])).norm(dim=1)
    assert torch.allclose(items, torch.tensor([0.0, 0.0, 1.0, 1.0]), atol=1e-5)


@pytest.mark.parametrize("make", [simplex, hrm])
def test_items_are_found_by_a_table_of_their_own_where_it_is_told_to(make: Any) -> None:
    network, rows = make(constrained_embedding=False), torch.tensor([[2], [5]])
    vectors = network.encode_items(rows)
    torch.testing.assert_close(vectors, F.normalize(network.output.weight[[2, 5]], dim=1))
    assert not torch.isclose(vectors, F.normalize(network.items.weight[[2, 5]], dim=1)).any()
    vectors.sum().backward()
    assert network.items.weight.grad is None
    shared = make()
    wanted = F.normalize(shared.items.weight[[2, 5]], dim=1)
    torch.testing.assert_close(shared.encode_items(rows), wanted)


def test_the_history_speaks_first() -> None:
    for make in (simplex, hrm):
        network = make(embedding_dim=64)
        users, items = network.user_embedding.weight[2:], network.items.weight[2:]
        assert users.norm(dim=1).mean() < 0.1 * items.norm(dim=1).mean()
        assert users.abs().sum(dim=1).min() > 0


@pytest.mark.parametrize("make", [simplex, hrm])
def test_works_without_user_features(make: Any) -> None:
    kind, config = (SimpleX, SimpleXConfig) if make is simplex else (HRM, HRMConfig)
    network = kind(config(max_len=3, embedding_dim=4), TowerInput(2, (), 3, 7), ITEM)
    assert network.encode_users(FEATURES[:, :3]).shape == (4, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SimpleXConfig(max_len=0), "max_len must be at least 1"),
        (lambda: SimpleXConfig(user_weight=1.5), "user_weight must be at most 1"),
        (lambda: SimpleXConfig(dropout=1.0), "dropout must be "),
        (lambda: HRMConfig(embedding_dim=0), "embedding_dim must be at least 1"),
        (lambda: HRMConfig(dropout=-1), "dropout must be "),
    ],
)
def test_mistakes(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

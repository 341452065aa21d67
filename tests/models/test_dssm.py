"""DSSM's towers, and the registry that names the models."""

import pytest
import torch

from sparkrec.models.dssm import DSSM, DSSMConfig
from sparkrec.models.two_tower import TowerInput

USER = TowerInput(num_rows=40, slices=((0, 1), (1, 5)))
ITEM = TowerInput(num_rows=30, slices=((0, 1), (1, 3)))


def small_dssm(dropout: float = 0.0) -> DSSM:
    torch.manual_seed(7)
    network = DSSM(DSSMConfig(embedding_dim=4, hidden=(16, 8), dropout=dropout), USER, ITEM)
    return network.eval()


def rows_of(side: TowerInput, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    width = side.slices[-1][1]
    return torch.randint(0, side.num_rows, (count, width), generator=generator)


def test_vectors_have_unit_length() -> None:
    network = small_dssm()
    for encode, side in ((network.encode_users, USER), (network.encode_items, ITEM)):
        vectors = encode(rows_of(side, 50))
        assert vectors.shape == (50, 8)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(50), atol=1e-5)


def test_a_row_of_unknowns_still_has_a_vector() -> None:
    vectors = small_dssm().encode_users(torch.ones((3, 5), dtype=torch.int64))
    assert torch.isfinite(vectors).all()
    assert torch.allclose(vectors[0], vectors[1], atol=1e-5)


def test_a_vector_does_not_depend_on_the_rest_of_the_batch() -> None:
    network = small_dssm()
    for encode, side in ((network.encode_users, USER), (network.encode_items, ITEM)):
        rows = rows_of(side, 20)
        whole = encode(rows)
        alone = torch.cat([encode(row[None]) for row in rows])
        assert torch.allclose(whole, alone, atol=1e-5)
        assert torch.allclose(encode(rows.flip(0)).flip(0), whole, atol=1e-5)


def test_a_users_list_is_a_bag() -> None:
    network = small_dssm()
    ordered = network.encode_users(torch.tensor([[3, 5, 6, 7, 0]]))
    shuffled = network.encode_users(torch.tensor([[3, 7, 0, 5, 6]]))
    assert torch.allclose(ordered, shuffled, atol=1e-5)


def test_the_towers_share_nothing() -> None:
    network = small_dssm()
    before = network.encode_items(rows_of(ITEM, 5))
    with torch.no_grad():
        network.user_embedding.weight.add_(1)
        for parameter in network.user_tower.parameters():
            parameter.add_(1)
    assert torch.equal(network.encode_items(rows_of(ITEM, 5)), before)


def test_both_towers_learn() -> None:
    network = small_dssm().train()
    scores = network.encode_users(rows_of(USER, 6)) @ network.encode_items(rows_of(ITEM, 6)).T
    scores.diagonal().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.to_dense().abs().sum() > 0, name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"embedding_dim": 0}, "embedding_dim must be at least 1"),
        ({"hidden": ()}, "hidden must name at least one width"),
        ({"hidden": (8, 0)}, "must be at least 1"),
        ({"dropout": 1.0}, "dropout must be "),
    ],
)
def test_wrong_configs(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DSSMConfig(**wrong)  # type: ignore[arg-type]

"""Item encoders: vectors from ids, weighted features and given numbers, read by a network."""

import pytest
import torch
from torch import Tensor, nn

from sparkrec.models.sasrec import SASRec, SASRecConfig
from sparkrec.models.two_tower import TowerInput
from sparkrec.nn.items import ContentEncoder, GivenVectors, ItemEncoder, ItemTable, WeightedFeatures
from sparkrec.training.settings import Training
from sparkrec.training.step.optimizers import RowAdam, make_optimizers

ITEMS, DIM = 6, 4
# Items 0 and 1 are reserved; item 4 has no feature, item 5 one that train never saw.
ROWS = torch.tensor([[0, 0], [0, 0], [2, 3], [3, 0], [0, 0], [1, 2]])
WEIGHTS = torch.tensor([[0.0, 0], [0, 0], [1, 0.5], [2, 0], [0, 0], [3, 1]])
WINDOWS = torch.tensor([[2, 3, 2, 0], [5, 4, 0, 0]])


def features() -> WeightedFeatures:
    torch.manual_seed(0)
    return WeightedFeatures(4, DIM, ROWS, WEIGHTS)


def given() -> GivenVectors:
    torch.manual_seed(0)
    return GivenVectors(torch.randn(ITEMS, 3), DIM)


ENCODERS = {
    "ids": lambda: ItemTable(ITEMS, DIM, 0.5),
    "ids, sparse": lambda: ItemTable(ITEMS, DIM, 0.5, sparse=True),
    "features": features,
    "given": given,
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> ItemEncoder:
    found: ItemEncoder = ENCODERS[request.param]()
    return found


def test_any_shape_and_zeros_for_reserved_items(encoder: ItemEncoder) -> None:
    vectors = encoder(WINDOWS)
    assert vectors.shape == (2, 4, DIM) and encoder.dim == DIM
    assert torch.equal(vectors[WINDOWS == 0], torch.zeros(3, DIM))
    assert torch.equal(encoder(torch.tensor([0, 1])), torch.zeros(2, DIM))
    assert torch.allclose(vectors[0, 0], vectors[0, 2])
    assert torch.allclose(vectors[0, 1], encoder(torch.tensor(3)))


def test_features_are_summed_by_weight() -> None:
    encoder = features()
    table = encoder.weight.detach()
    found = encoder(torch.tensor([2, 3, 4, 5])).detach()
    assert torch.allclose(found[0], table[2] + 0.5 * table[3])
    assert torch.allclose(found[1], 2 * table[3])
    assert not found[2].any()
    assert torch.allclose(found[3], table[2]), "an unknown feature adds nothing"


def test_given_numbers_are_mapped() -> None:
    encoder = given()
    wanted = encoder.map(encoder.vectors[3])
    assert torch.allclose(encoder(torch.tensor([3]))[0], wanted)


def test_each_distinct_item_of_a_batch_is_encoded_once() -> None:
    seen: list[Tensor] = []

    class Counting(ContentEncoder):
        dim = DIM

        def encode(self, items: Tensor) -> Tensor:
            seen.append(items)
            return items[:, None].float().expand(-1, DIM)

    assert Counting()(WINDOWS)[..., 0].tolist() == [[2, 3, 2, 0], [5, 4, 0, 0]]
    assert [items.tolist() for items in seen] == [[0, 2, 3, 4, 5]]


@pytest.mark.parametrize("kind", ["features", "given", "ids, sparse"])
def test_a_sequence_model_learns_through_any_encoder(kind: str) -> None:
    """SASRec does not know what the vectors of its items are made of."""
    torch.manual_seed(0)
    config = SASRecConfig(max_len=4, dim=DIM, blocks=1, heads=1, dropout=0.0)
    network = SASRec(config, TowerInput(2, (), 4, ITEMS), TowerInput(2, (), 1, ITEMS))
    network.items = ENCODERS[kind]()
    optimizers = make_optimizers(network, Training(learning_rate=0.05))
    assert any(isinstance(o, RowAdam) for o in optimizers) is (kind != "given")
    candidates = torch.arange(2, ITEMS)[:, None]
    losses = []
    for _ in range(60):
        for optimizer in optimizers:
            optimizer.zero_grad()
        scores = network.encode_users(WINDOWS[:1]) @ network.encode_items(candidates).T
        loss = nn.functional.cross_entropy(scores, torch.tensor([1]))
        loss.backward()
        losses.append(loss.item())
        for optimizer in optimizers:
            optimizer.step()
    assert losses[-1] < 0.2 < losses[0]


def test_content_is_no_weight_of_the_model() -> None:
    """It belongs to the items, which change, and is given anew where a model is built."""
    assert set(features().state_dict()) == {"weight"}
    assert set(given().state_dict()) == {"map.weight", "map.bias"}

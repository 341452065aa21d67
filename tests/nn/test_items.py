"""Item encoders: vectors from ids, weighted features and given numbers, read by a network."""

import pytest
import torch
from torch import Tensor, nn

from sparkrec.models.sasrec import SASRec, SASRecConfig
from sparkrec.models.two_tower import TowerInput
from sparkrec.nn.items import ContentEncoder, ItemContent, ItemEncoder, ItemTable
from sparkrec.training.settings import Training
from sparkrec.training.step.optimizers import RowAdam, make_optimizers

ITEMS, DIM = 6, 4
# Items 0 and 1 are reserved; item 4 has no feature, item 5 one that train never saw.
ROWS = torch.tensor([[0, 0], [0, 0], [2, 3], [3, 0], [0, 0], [1, 2]])
WEIGHTS = torch.tensor([[0.0, 0], [0, 0], [1, 0.5], [2, 0], [0, 0], [3, 1]])
WINDOWS = torch.tensor([[2, 3, 2, 0], [5, 4, 0, 0]])


def content(
    ids: bool = False, floats: int = 0, features: int = 1, bias: bool = False
) -> ItemContent:
    torch.manual_seed(0)
    # Item 5 was added after training.
    table = ItemTable(5, DIM, 0.5, bias=bias) if ids else None
    made = ItemContent(DIM, 4, features, floats, 0.5, sparse=not ids, bias=bias, ids=table)
    made.set_content(ROWS, WEIGHTS, torch.randn(ITEMS, floats))
    return made.eval()


ENCODERS = {
    "ids": lambda: ItemTable(ITEMS, DIM, 0.5),
    "ids, sparse": lambda: ItemTable(ITEMS, DIM, 0.5, sparse=True),
    "features": content,
    "numbers": lambda: content(floats=3, features=0),
    "ids and features and numbers": lambda: content(ids=True, floats=3),
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
    encoder = content()
    table = encoder.features.weight.detach()
    found = encoder(torch.tensor([2, 3, 4, 5])).detach()
    assert torch.allclose(found[0], table[2] + 0.5 * table[3])
    assert torch.allclose(found[1], 2 * table[3])
    assert not found[2].any()
    assert torch.allclose(found[3], table[2]), "an unknown feature adds nothing"


def test_an_item_is_the_sum_of_its_parts() -> None:
    encoder = content(ids=True, floats=3)
    rows, numbers = encoder.features.weight, encoder.numbers.weight
    wanted = 2 * rows[3] + numbers @ encoder.floats[3] + encoder.ids.weight[3]
    assert torch.allclose(encoder(torch.tensor([3]))[0], wanted, atol=1e-6)
    unseen = 3 * rows[1] + rows[2] + numbers @ encoder.floats[5]
    assert torch.allclose(encoder(torch.tensor([5]))[0], unseen, atol=1e-6)


def test_an_id_is_dropped_in_training_alone() -> None:
    encoder = content(ids=True)
    encoder.id_dropout = 0.5
    items = torch.tensor([3]).expand(400)
    whole, bare = encoder(items[:1])[0], encoder(items[:1])[0] - encoder.ids.weight[3]
    assert torch.equal(encoder.encode(items), whole.expand(400, DIM))
    encoder.train()
    found = encoder.encode(items)
    with_id = torch.isclose(found, whole, atol=1e-6).all(dim=1)
    assert 150 < int(with_id.sum()) < 250
    assert torch.allclose(found[~with_id], bare.expand(400, DIM)[~with_id], atol=1e-6)


def test_the_bias_beside_an_id_is_that_of_the_id_and_is_never_dropped() -> None:
    encoder = content(ids=True, floats=3, bias=True)
    with torch.no_grad():
        encoder.ids.weight[2:, -1] = torch.tensor([7.0, 8.0, 9.0])
    plain = content(ids=True, floats=3)
    plain.load_state_dict({**encoder.state_dict(), "ids.weight": encoder.ids.weight[:, :DIM]})
    plain.set_content(encoder.rows, encoder.weights, encoder.floats)
    items = torch.arange(6)
    found = encoder(items)
    assert found.shape == (6, DIM + 1) and encoder.dim == DIM + 1
    assert found[:, DIM].tolist() == [0, 0, 7, 8, 9, 0]
    assert torch.allclose(found[:, :DIM], plain(items))
    encoder.train().id_dropout = 0.9
    assert encoder(items)[:, DIM].tolist() == [0, 0, 7, 8, 9, 0]
    alone = content(floats=3, bias=True)
    with torch.no_grad():
        alone.features.weight[2:, -1] = torch.tensor([1.0, 2.0])
        alone.numbers.weight.zero_()
    assert alone(torch.tensor([2]))[0, DIM].item() == 1 + 0.5 * 2


def test_each_distinct_item_of_a_batch_is_encoded_once() -> None:
    seen: list[Tensor] = []

    class Counting(ContentEncoder):
        dim = DIM

        def encode(self, items: Tensor) -> Tensor:
            seen.append(items)
            return items[:, None].float().expand(-1, DIM)

    assert Counting()(WINDOWS)[..., 0].tolist() == [[2, 3, 2, 0], [5, 4, 0, 0]]
    assert [items.tolist() for items in seen] == [[0, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    "kind", ["features", "numbers", "ids and features and numbers", "ids, sparse"]
)
def test_a_sequence_model_learns_through_any_encoder(kind: str) -> None:
    """SASRec does not know what the vectors of its items are made of."""
    torch.manual_seed(0)
    config = SASRecConfig(max_len=4, dim=DIM, blocks=1, heads=1, dropout=0.0)
    network = SASRec(config, TowerInput(2, (), 4, ITEMS), TowerInput(2, (), 1, ITEMS))
    network.items = ENCODERS[kind]()
    optimizers = make_optimizers(network, Training(learning_rate=0.05))
    assert any(isinstance(o, RowAdam) for o in optimizers) is (kind in ("features", "ids, sparse"))
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
    names = {"features.weight", "numbers.weight", "ids.weight"}
    assert set(content(ids=True, floats=3).state_dict()) == names

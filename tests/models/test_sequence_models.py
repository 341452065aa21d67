"""GRU4Rec, SASRec and SSR: what a step may know, and their equations."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sparkrec.models.gru4rec import GRU4Rec, GRU4RecConfig
from sparkrec.models.sasrec import SASRec, SASRecConfig
from sparkrec.models.sequence import SequenceNetwork
from sparkrec.models.ssr import SSR, SSRConfig
from sparkrec.models.two_tower import TowerInput

USER, ITEM = TowerInput(2, (), 6, 9), TowerInput(2, (), 1, 9)
WINDOWS = torch.tensor([[2, 3, 4, 5, 0, 0], [8, 2, 0, 0, 0, 0], [3, 3, 7, 6, 5, 4]])


def gru(**settings: Any) -> GRU4Rec:
    torch.manual_seed(0)
    defaults = {"max_len": 6, "hidden": (4,), "embedding_dim": 4}
    return GRU4Rec(GRU4RecConfig(**{**defaults, **settings}), USER, ITEM).eval()


def sasrec(**settings: Any) -> SASRec:
    torch.manual_seed(0)
    defaults = {"max_len": 6, "dim": 4, "blocks": 2, "heads": 2}
    return SASRec(SASRecConfig(**{**defaults, **settings}), USER, ITEM).eval()


def ssr(**settings: Any) -> SSR:
    torch.manual_seed(0)
    defaults = {"max_len": 6, "hidden": (3,), "embedding_dim": 4, "slow_steps": 2}
    return SSR(SSRConfig(**{**defaults, **settings}), USER, ITEM).eval()


NETWORKS = {
    "gru": gru,
    "gru of two layers": lambda **s: gru(hidden=(5, 4), **s),
    "gru with an output table": lambda **s: gru(hidden=(3,), constrained_embedding=False, **s),
    "gru without bias": lambda **s: gru(bias=False, **s),
    "sasrec": sasrec,
    "ssr": ssr,
    "ssr, residual": lambda **s: ssr(residual=True, **s),
    "ssr, slow recurrent layer": lambda **s: ssr(long_term="recurrent", **s),
    "ssr, maximum, cosine": lambda **s: ssr(
        short_term="max", long_term="none", item_hidden=(5,), cosine=True, bias=False, **s
    ),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> SequenceNetwork:
    found: SequenceNetwork = NETWORKS[request.param]()
    return found


def test_a_step_knows_nothing_of_later_ones(network: SequenceNetwork) -> None:
    changed = WINDOWS.clone()
    changed[:, 3:] = torch.tensor([8, 6, 2])
    before, after = network.encode_windows(WINDOWS), network.encode_windows(changed)
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-5)
    assert not torch.allclose(before[:, 3:], after[:, 3:], atol=1e-3)


def test_rows_do_not_know_of_each_other(network: SequenceNetwork) -> None:
    alone = torch.cat([network.encode_windows(row[None]) for row in WINDOWS])
    assert torch.allclose(network.encode_windows(WINDOWS), alone, atol=1e-5)


def test_a_query_is_its_last_step_whatever_stands_behind(network: SequenceNetwork) -> None:
    found = network.encode_users(WINDOWS)
    for row, length in enumerate((4, 2, 6)):
        wanted = network.encode_windows(WINDOWS[row : row + 1, :length])[0, -1]
        assert torch.allclose(found[row], wanted, atol=1e-5)


def test_no_history_gives_zeros_and_so_do_reserved_items(network: SequenceNetwork) -> None:
    assert network.encode_users(torch.zeros(2, 6, dtype=torch.long)).abs().sum() == 0
    assert network.encode_items(torch.tensor([[0], [1]])).abs().sum() == 0


def with_content(**settings: Any) -> GRU4Rec:
    torch.manual_seed(0)
    item = TowerInput(5, ((0, 2),), 1, 9, 3)
    defaults = {"max_len": 6, "hidden": (4,), "embedding_dim": 4, "items": "both"}
    network = GRU4Rec(GRU4RecConfig(**{**defaults, **settings}), USER, item)
    rows = torch.randint(0, 5, (9, 2), dtype=torch.int32)
    network.set_content(
        {"item_rows": rows, "item_weights": torch.rand(9, 2), "item_floats": torch.randn(9, 3)}
    )
    return network


@pytest.mark.parametrize("settings", [{}, {"constrained_embedding": False}, {"bias": False}])
def test_a_step_encodes_items_as_a_query_does(settings: dict[str, Any]) -> None:
    network = with_content(**settings)
    with torch.no_grad():
        network.get_parameter("items.ids.weight")[2:].normal_()
    candidates = torch.tensor([2, 4, 8])
    states, found = network.encode_step(WINDOWS, candidates)
    assert torch.allclose(states, network.encode_windows(WINDOWS), atol=1e-6)
    assert torch.allclose(found, network.encode_items(candidates[:, None]), atol=1e-6)


def test_a_network_may_encode_candidates_in_its_own_way() -> None:
    class Cosine(GRU4Rec):
        def encode_items(self, features: Tensor) -> Tensor:
            return torch.nn.functional.normalize(super().encode_items(features), dim=-1)

    torch.manual_seed(0)
    config = GRU4RecConfig(max_len=6, hidden=(4,), embedding_dim=4)
    _, found = Cosine(config, USER, ITEM).encode_step(WINDOWS, torch.tensor([2, 4]))
    assert torch.allclose(found.norm(dim=-1), torch.ones(2))


def test_gru_equations() -> None:
    """One layer by hand: reset and update gates, ICLR 2016 section 3."""
    network = gru(bias=False)
    layer = network.layers[0]
    embedded, state = network.items(WINDOWS[0, :4]), torch.zeros(4)
    for step in embedded:
        from_input = layer.weight_ih_l0 @ step + layer.bias_ih_l0
        from_state = layer.weight_hh_l0 @ state + layer.bias_hh_l0
        reset = torch.sigmoid(from_input[:4] + from_state[:4])
        update = torch.sigmoid(from_input[4:8] + from_state[4:8])
        new = torch.tanh(from_input[8:] + reset * from_state[8:])
        state = (1 - update) * new + update * state
    assert torch.allclose(network.encode_users(WINDOWS[:1])[0], state, atol=1e-5)


def test_gru_bias_is_a_number_more() -> None:
    network = gru()
    with torch.no_grad():
        network.items.weight[5, -1] = 0.7
    users, items = network.encode_users(WINDOWS), network.encode_items(torch.tensor([[5], [6]]))
    plain = users[:, :-1] @ items[:, :-1].T
    assert torch.allclose(users @ items.T - plain, torch.tensor([0.7, 0.0]), atol=1e-5)


def attention_by_hand(network: SASRec, items: Tensor) -> Tensor:
    """Explicit heads and an explicit mask, one row."""
    states = network.items(items) + network.positions[: len(items)]
    later = torch.ones(len(items), len(items)).triu(1).bool()
    for block in network.blocks:
        normed = block.attention_norm(states)
        queries, keys, values = block.queries_keys_values(normed).split(4, dim=-1)
        heads = []
        for head in (slice(0, 2), slice(2, 4)):
            logits = queries[:, head] @ keys[:, head].T / 2**0.5
            heads.append(logits.masked_fill(later, -torch.inf).softmax(-1) @ values[:, head])
        states = states + block.mix(torch.cat(heads, dim=-1))
        widened = torch.nn.functional.gelu(block.widen(block.forward_norm(states)))
        states = states + block.narrow(widened)
    return network.norm(states)


def test_sasrec_equations() -> None:
    network = sasrec()
    found = network.encode_windows(WINDOWS[2:])[0]
    assert torch.allclose(found, attention_by_hand(network, WINDOWS[2]), atol=1e-5)


def ssr_by_hand(network: SSR, items: Tensor, users: Tensor | None = None) -> Tensor:
    """The vector of the last step: fast and slow part and the user, joined; Song et al. 2016."""
    config = network.config
    embedded = network.items(items)[:, : config.embedding_dim]
    states = network.layers[0](embedded[None])[0][0]
    parts = [states[-1] if config.short_term == "last" else states.max(dim=0).values]
    if config.long_term == "mean":
        parts.append(embedded.mean(dim=0))
    if config.long_term == "recurrent":
        groups = len(items) // config.slow_steps
        whole = embedded[: groups * config.slow_steps]
        means = torch.stack([group.mean(dim=0) for group in whole.split(config.slow_steps)])
        parts.append(network.slow(means[None])[0][0, -1])
    if users is not None:
        parts += [network.user_embedding.weight[row] for row in users]
    joined = network.join(torch.cat(parts))
    if config.residual:
        joined = joined + network.residual_scale.exp() * embedded.mean(dim=0)
    if config.bias:
        joined = torch.cat([joined, torch.ones(1)])
    return joined / joined.norm() if config.cosine else joined


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"residual": True},
        {"long_term": "recurrent"},
        {"long_term": "none", "short_term": "max", "bias": False},
        {"item_hidden": (6, 5), "bias": False, "cosine": True},
    ],
)
def test_ssr_equations(settings: dict[str, Any]) -> None:
    network = ssr(**settings)
    found = network.encode_users(WINDOWS[[2]])[0]
    assert torch.allclose(found, ssr_by_hand(network, WINDOWS[2]), atol=1e-5)
    items = network.encode_items(torch.tensor([[4], [7]]))
    assert items.shape[1] == len(found)
    if settings.get("item_hidden"):
        read = network.items(torch.tensor([4, 7]))
        first, _, second = network.candidates.network
        mapped = second(torch.relu(first(read)))
        assert torch.allclose(items, mapped / mapped.norm(dim=1, keepdim=True), atol=1e-5)


def test_residual_prefers_items_of_the_history() -> None:
    """Untrained, a longer window: items of the history rank before all others."""
    torch.manual_seed(0)
    config = SSRConfig(max_len=6, embedding_dim=256, hidden=(8,), residual=True)
    network = SSR(config, TowerInput(2, (), 6, 300), TowerInput(2, (), 1, 300)).eval()
    query = network.encode_users(torch.tensor([[5, 40, 80, 120, 160, 200]]))[0]
    scores = network.encode_items(torch.arange(2, 300)[:, None]) @ query
    assert set((scores.topk(6).indices + 2).tolist()) == {5, 40, 80, 120, 160, 200}


def test_ssr_reads_the_users_features_at_every_step() -> None:
    torch.manual_seed(0)
    user = TowerInput(7, ((0, 1), (1, 2)), 6, 9)
    config = SSRConfig(max_len=6, hidden=(3,), embedding_dim=4, user_dim=2)
    network = SSR(config, user, ITEM).eval()
    users = torch.tensor([[2, 5], [3, 6], [2, 0]])
    found = network.encode_users(torch.cat([WINDOWS, users], dim=1))
    steps = network.encode_windows(WINDOWS, users)
    for row, length in enumerate((4, 2, 6)):
        wanted = ssr_by_hand(network, WINDOWS[row, :length], users[row])
        assert torch.allclose(found[row], wanted, atol=1e-5)
        assert torch.allclose(steps[row, length - 1], wanted, atol=1e-5)
        other = network.encode_windows(WINDOWS[[row]], users[[(row + 1) % 3]])
        assert not torch.allclose(steps[row, 0], other[0, 0], atol=1e-3)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (gru, "dropout_embedding"),
        (gru, "dropout_hidden"),
        (sasrec, "dropout"),
        (ssr, "dropout_embedding"),
        (ssr, "dropout_hidden"),
    ],
)
def test_dropout_is_for_training(make: Any, name: str) -> None:
    plain, dropping = make(), make(**{name: 0.5})
    assert torch.equal(plain.encode_windows(WINDOWS), dropping.encode_windows(WINDOWS))
    dropping.train()
    assert not torch.allclose(plain.encode_windows(WINDOWS), dropping.encode_windows(WINDOWS))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_len": 0}, "max_len must be at least 1"),
        ({"hidden": ()}, "hidden must name"),
        ({"hidden": (64,)}, "constrained_embedding needs embedding_dim"),
        ({"dropout_hidden": 1.0}, "dropout_hidden must be "),
    ],
)
def test_gru_mistakes(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRU4RecConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": ()}, "hidden must name"),
        ({"cosine": True}, "bias must be false with cosine"),
        ({"item_hidden": (4,)}, "bias must be false with cosine or item_hidden"),
        ({"slow_steps": 0}, "slow_steps must be at least 1"),
        ({"residual": True, "long_term": "none"}, "residual needs long_term: mean"),
        ({"residual": True, "item_hidden": (4,), "bias": False}, "and no item_hidden"),
    ],
)
def test_ssr_mistakes(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SSRConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"heads": 3}, "multiple of heads"), ({"dropout": -0.1}, "dropout must be ")],
)
def test_sasrec_mistakes(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SASRecConfig(**settings)

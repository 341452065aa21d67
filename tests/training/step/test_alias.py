"""Draws by alias table: every weight is drawn as often as it should be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkrec.training.step.alias import alias_table, draw


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any))
def test_cells_add_up_to_the_weights(weights: list[int]) -> None:
    """Of every cell its own share, and what others give: exactly the weights."""
    numbers = torch.tensor(weights).double()
    own, alias = alias_table(numbers)
    found = own.double().index_add(0, alias, 1 - own.double())
    assert torch.allclose(found, numbers / numbers.sum() * len(weights), atol=1e-5)


def test_what_has_no_weight_is_never_drawn() -> None:
    torch.manual_seed(0)
    table = alias_table(torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0]))
    share = torch.bincount(draw(table, 100_000), minlength=5) / 100_000
    assert share.tolist() == pytest.approx([0, 0.25, 0, 0.75, 0], abs=0.005)
    assert share[0] == share[2] == share[4] == 0


def test_equal_seeds_draw_alike() -> None:
    table = alias_table(torch.tensor([1.0, 2.0]))
    torch.manual_seed(3)
    first = draw(table, 50)
    torch.manual_seed(3)
    assert torch.equal(draw(table, 50), first)

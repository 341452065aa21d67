"""mlp: its shapes, and what stands between its layers."""

import pytest
import torch
from torch import nn

from sparkrec.nn.layers import mlp


@pytest.mark.parametrize("hidden", [(7,), (5, 3), (8, 4, 2)])
def test_shapes_and_layers(hidden: tuple[int, ...]) -> None:
    network = mlp(6, hidden)
    assert network(torch.zeros(11, 6)).shape == (11, hidden[-1])
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linear] == [6, *hidden[:-1]]
    assert [layer.out_features for layer in linear] == list(hidden)
    assert sum(isinstance(layer, nn.ReLU) for layer in network) == len(hidden) - 1


def test_the_last_layer_is_linear() -> None:
    network = mlp(2, (4, 3))
    assert isinstance(network[-1], nn.Linear)
    outputs = network(torch.randn(200, 2))
    assert outputs.min() < 0 < outputs.max()


def test_dropout_works_in_training_alone_and_never_on_the_output() -> None:
    network = mlp(4, (64, 64, 8), dropout=0.5)
    assert sum(isinstance(layer, nn.Dropout) for layer in network) == 2
    inputs = torch.randn(3, 4)
    network.train()
    assert not torch.equal(network(inputs), network(inputs))
    network.eval()
    assert torch.equal(network(inputs), network(inputs))
    assert not any(isinstance(layer, nn.Dropout) for layer in mlp(4, (8, 8)))

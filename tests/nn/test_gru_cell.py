"""The recurrent step against Torch's."""

import torch

from sparkrec.nn import gru_cell


def test_equals_torchs_layer_and_so_do_its_gradients() -> None:
    torch.manual_seed(0)
    layer = torch.nn.GRU(5, 4, dtype=torch.float64)
    inputs = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    state = torch.randn(3, 4, dtype=torch.float64)
    towards = torch.randn(3, 4, dtype=torch.float64)
    wanted = layer(inputs[None], state[None])[1][0]
    leaves = (inputs, *layer.parameters())
    gradients = torch.autograd.grad(wanted, leaves, towards)
    with torch.no_grad():
        step = gru_cell.forward(layer, inputs, state)
        to_inputs = gru_cell.backward(layer, step, towards)
    assert torch.allclose(wanted, step.after, atol=1e-5)
    found = (to_inputs, *(weights.grad for weights in layer.parameters()))
    for one, other in zip(gradients, found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)

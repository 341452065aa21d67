"""One step of a gated recurrent unit, as in `torch.nn.GRU`, with its gradient without autograd.

Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
Translation", EMNLP 2014, with the reset gate applied after the matrix product. For small steps the
overhead of autograd would take more time than the step.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Step(NamedTuple):
    """A step: its inputs, its gates, and the state after it; all [batch, width]."""

    inputs: Tensor
    before: Tensor
    reset: Tensor
    update: Tensor
    remembered: Tensor
    new: Tensor
    after: Tensor


def forward(layer: nn.GRU, inputs: Tensor, state: Tensor) -> Step:
    """Take a step from `state` [batch, width] with `inputs` [batch, input width].

    `layer` has one layer and one direction. Its gates are in the order reset, update, new.
    """
    gates = 2 * state.shape[1]
    w_ih, w_hh, b_ih, b_hh = layer.all_weights[0]
    from_input = torch.addmm(b_ih, inputs, w_ih.T)
    from_state = torch.addmm(b_hh, state, w_hh.T)
    both = (from_input[:, :gates] + from_state[:, :gates]).sigmoid_()
    reset, update = both[:, : gates // 2], both[:, gates // 2 :]
    remembered = from_state[:, gates:]
    new = torch.addcmul(from_input[:, gates:], reset, remembered).tanh_()
    return Step(inputs, state, reset, update, remembered, new, torch.lerp(new, state, update))


def backward(layer: nn.GRU, step: Step, gradient: Tensor) -> Tensor:
    """Store the gradients of the weights of a step in `grad`, and return that of its inputs.

    `gradient` is the gradient of the state after the step. No gradient flows to the state before.
    """
    reset, update, new = step.reset, step.update, step.new
    count, width = gradient.shape
    to_input = gradient.new_empty(count, 3 * width)
    kept = gradient * update
    to_new = torch.mul(gradient - kept, 1 - new * new, out=to_input[:, 2 * width :])
    to_update = kept.mul_(step.before - new).mul_(1 - update)
    to_input[:, width : 2 * width] = to_update
    torch.mul(to_new * step.remembered, reset - reset * reset, out=to_input[:, :width])
    to_state = to_input.clone()
    to_state[:, 2 * width :] *= reset
    w_ih, w_hh, b_ih, b_hh = layer.all_weights[0]
    w_ih.grad, w_hh.grad = to_input.T @ step.inputs, to_state.T @ step.before
    b_ih.grad, b_hh.grad = to_input.sum(0), to_state.sum(0)
    return to_input @ w_ih

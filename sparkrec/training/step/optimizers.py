"""Optimizers for dense and sparse parameters, and the schedule of the learning rate."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sparkrec.nn.embedding import Table
from sparkrec.training.settings import Training
from sparkrec.training.step.sparse_kernels import adagrad, adagrad_rows, adam_rows


class AdagradMomentum(torch.optim.Optimizer):
    """Adagrad with momentum. The cost of a sparse gradient depends on its rows only.

    Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
    JMLR 2011, with heavy-ball momentum, as in GRU4Rec. A row without a gradient does not change,
    and its momentum is used at its next gradient.

    Parameters
    ----------
    params
        The parameters to optimise.
    lr
        Learning rate.
    momentum
        Fraction of the last step of a parameter that is added to its next step, in [0, 1).
    eps
        Added to the sum of squares under the square root.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "eps": eps})
        self._arrays: dict[torch.Tensor, _Arrays] = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step along the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["squares"] = torch.zeros_like(parameter)
                    if group["momentum"]:
                        state["velocity"] = torch.zeros_like(parameter)
                if parameter.device.type == "cpu":
                    self._compiled_step(parameter, state, group)
                elif parameter.grad.is_sparse:
                    sparse_step(parameter, parameter.grad.coalesce(), state, group)
                else:
                    dense_step(parameter, parameter.grad, state, group)

    def _compiled_step(
        self, parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """The step in one pass over the numbers that it changes."""
        gradient = parameter.grad
        assert gradient is not None
        known = self._arrays.get(parameter)
        if known is None or known.first is not state["squares"]:  # new, or restored
            velocity = state.get("velocity", parameter.detach()[:0])
            known = self._arrays[parameter] = _Arrays(parameter, state["squares"], velocity)
        # The settings have the dtype of the table, so that the kernel computes in that dtype.
        kind = known.tables[0].dtype.type
        settings = kind(group["lr"]), kind(group["momentum"]), kind(group["eps"])
        if gradient.is_sparse:
            adagrad_rows(*known.tables, *_rows_of(gradient), known.last, *settings)
        else:
            weights, squares, velocity = known.flat
            flat = gradient.contiguous().numpy().reshape(-1)
            adagrad(weights, squares, velocity, flat, *settings)


class RowAdam(torch.optim.SparseAdam):
    """Torch's SparseAdam; on the CPU it makes one pass over the rows of the gradient.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. The moments of a row
    without a gradient stay as they are.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, lr=lr)
        self._arrays: dict[torch.Tensor, _Arrays] = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step along the gradients."""
        if any(p.device.type != "cpu" for group in self.param_groups for p in group["params"]):
            super().step()
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._compiled_step(parameter, parameter.grad, group)

    def _compiled_step(
        self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]
    ) -> None:
        state = self.state[parameter]
        if not state:  # the same state as SparseAdam's
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        known = self._arrays.get(parameter)
        if known is None or known.first is not state["exp_avg"]:  # new, or restored
            known = _Arrays(parameter, state["exp_avg"], state["exp_avg_sq"])
            self._arrays[parameter] = known
        keep_mean, keep_square = group["betas"]
        unbiased = math.sqrt(1 - keep_square ** state["step"]) / (1 - keep_mean ** state["step"])
        kind = known.tables[0].dtype.type
        settings = map(kind, (group["lr"] * unbiased, keep_mean, keep_square, group["eps"]))
        adam_rows(*known.tables, *_rows_of(gradient), known.last, *settings)


class _Arrays:
    """The memory of a parameter and of its state as numpy arrays, and working memory."""

    def __init__(self, parameter: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> None:
        self.first = first
        self.tables = parameter.detach().numpy(), first.numpy(), second.numpy()
        self.flat = [table.reshape(-1) for table in self.tables]
        self.last = np.full(len(parameter), -1)


def _rows_of(gradient: torch.Tensor) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The row numbers of a sparse gradient, and their gradients; a row may occur several times."""
    return gradient._indices()[0].numpy(), gradient._values().contiguous().numpy()


def dense_step(
    parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
) -> None:
    """A step of Adagrad in Torch, for any device. `state` has `squares`, and `velocity`."""
    squares = state["squares"].addcmul_(gradient, gradient)
    change = gradient / (squares + group["eps"]).sqrt_() * -group["lr"]
    if group["momentum"]:
        change = state["velocity"].mul_(group["momentum"]).add_(change)
    parameter.add_(change)


def sparse_step(
    parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
) -> None:
    """The same for the rows of a coalesced sparse gradient."""
    rows, values = gradient.indices()[0], gradient.values()
    squares = state["squares"][rows].addcmul_(values, values)
    state["squares"][rows] = squares
    change = values / (squares + group["eps"]).sqrt_() * -group["lr"]
    if group["momentum"]:
        change.add_(state["velocity"][rows], alpha=group["momentum"])
        state["velocity"][rows] = change
    parameter.index_add_(0, rows, change)


def make_optimizers(network: nn.Module, training: Training) -> list[torch.optim.Optimizer]:
    """Adagrad, or RowAdam for embedding tables with sparse gradients and AdamW for the rest."""
    dense = dense_parameters(network)
    dense_ids = {id(p) for p in dense}
    sparse = [p for p in network.parameters() if id(p) not in dense_ids]
    rate, momentum = training.learning_rate, training.momentum
    optimizers: list[torch.optim.Optimizer] = []
    if training.optimizer == "adagrad":
        return [AdagradMomentum([*sparse, *dense], rate, momentum)]
    if sparse:
        optimizers.append(RowAdam(sparse, rate))
    if dense:
        optimizers.append(torch.optim.AdamW(dense, lr=rate, weight_decay=training.weight_decay))
    return optimizers


def dense_parameters(network: nn.Module) -> list[nn.Parameter]:
    """All parameters except tables with sparse gradients."""
    sparse_ids = {
        id(module.weight)
        for module in network.modules()
        if isinstance(module, Table) and module.sparse
    }
    return [p for p in network.parameters() if id(p) not in sparse_ids]


def set_learning_rate(
    optimizers: Iterable[torch.optim.Optimizer], training: Training, step: int, steps: int
) -> None:
    """Set the learning rate of a step in every optimizer."""
    if training.schedule == "constant" and step > training.warmup_steps + 1:
        return  # it is set already
    rate = learning_rate(training, step, steps)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def learning_rate(training: Training, step: int, steps: int) -> float:
    """The learning rate of a step (1, 2, ...) of a run with at most `steps` steps.

    A refit uses the same schedule as the fit that chose its number of epochs.
    """
    warm = training.warmup_steps
    if step <= warm:
        return training.learning_rate * step / (warm + 1)
    # Strictly between 0 and 1, so that the rate of the last step is not 0.
    done = (step - warm) / (max(steps, step) - warm + 1)
    match training.schedule:
        case "linear":
            return training.learning_rate * (1 - done)
        case "cosine":
            return training.learning_rate * (1 + math.cos(math.pi * done)) / 2
        case _:
            return training.learning_rate

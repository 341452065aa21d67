"""Steps of Adagrad and Adam, in one pass over the numbers that change.

The gradient of a table has row numbers [n] and a gradient for each [n, dim]. If a row occurs
several times, its gradients are summed. `last`, [table], is working memory: -1 everywhere, before
and after a step.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from sparkrec.compiled import compiled

Floats = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


@compiled
def adagrad(
    weights: Floats,
    squares: Floats,
    velocity: Floats,
    gradient: Floats,
    rate: float,
    momentum: float,
    eps: float,
) -> None:
    """Move `weights`, and change `squares` and `velocity`, all [size], in place.

    `velocity` may be empty where there is no momentum.
    """
    if momentum > 0:
        for place in range(len(weights)):
            squares[place] += gradient[place] * gradient[place]
            step = rate * gradient[place] / np.sqrt(squares[place] + eps)
            velocity[place] = momentum * velocity[place] - step
            weights[place] += velocity[place]
    else:
        for place in range(len(weights)):
            squares[place] += gradient[place] * gradient[place]
            weights[place] -= rate * gradient[place] / np.sqrt(squares[place] + eps)


@compiled
def adagrad_rows(
    weights: Floats,
    squares: Floats,
    velocity: Floats,
    rows: Ints,
    gradients: Floats,
    last: Ints,
    rate: float,
    momentum: float,
    eps: float,
) -> None:
    """Move `weights`, and change `squares` and `velocity`, all [table, dim], in place.

    `velocity` may be empty where there is no momentum.
    """
    before = _chains(rows, last)
    summed = np.empty(weights.shape[1], weights.dtype)
    for place in range(len(rows)):
        row = rows[place]
        if last[row] != place:
            continue
        last[row] = -1
        gradient = _total(place, before, gradients, summed)
        moving = velocity[row] if momentum > 0 else velocity[:0].reshape(-1)
        adagrad(weights[row], squares[row], moving, gradient, rate, momentum, eps)


@compiled
def adam_rows(
    weights: Floats,
    means: Floats,
    squares: Floats,
    rows: Ints,
    gradients: Floats,
    last: Ints,
    rate: float,
    keep_mean: float,
    keep_square: float,
    eps: float,
) -> None:
    """Move `weights`, and change `means` and `squares`, all [table, dim], in place.

    Parameters
    ----------
    rate
        Learning rate of this step, including the bias correction of the moments.
    keep_mean, keep_square
        Decay rates of the moments (beta1 and beta2).
    """
    one = weights.dtype.type(1)
    new_mean, new_square = one - keep_mean, one - keep_square
    before = _chains(rows, last)
    summed = np.empty(weights.shape[1], weights.dtype)
    for place in range(len(rows)):
        row = rows[place]
        if last[row] != place:
            continue
        last[row] = -1
        gradient = _total(place, before, gradients, summed)
        weight, mean, square = weights[row], means[row], squares[row]
        for i in range(len(gradient)):
            mean[i] = keep_mean * mean[i] + new_mean * gradient[i]
            square[i] = keep_square * square[i] + new_square * gradient[i] * gradient[i]
            weight[i] -= rate * mean[i] / (np.sqrt(square[i]) + eps)


@compiled
def _chains(rows: Ints, last: Ints) -> Ints:
    """Link the places of the same row: the previous place of each, or -1; `last` has the last."""
    before = np.empty(len(rows), np.int64)
    for place in range(len(rows)):
        before[place] = last[rows[place]]
        last[rows[place]] = place
    return before


@compiled
def _total(place: int, before: Ints, gradients: Floats, summed: Floats) -> Floats:
    """The sum of the gradients of a chain that ends at a place; `summed` [dim] holds the result."""
    other = before[place]
    if other < 0:
        return gradients[place]
    summed[:] = gradients[place]
    while other >= 0:
        summed += gradients[other]
        other = before[other]
    return summed

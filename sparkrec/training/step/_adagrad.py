"""A step of Adagrad, in one pass over what it changes."""

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

    Parameters
    ----------
    rows, gradients
        [n] and [n, dim]; the gradients of a row that is named more than once are summed.
    velocity
        May be empty where there is no momentum.
    last
        Scratch, [table]: -1 everywhere, before and after.
    """
    # Places of the same row form a chain, from its last one to its first.
    before = np.empty(len(rows), np.int64)
    for place in range(len(rows)):
        before[place] = last[rows[place]]
        last[rows[place]] = place
    summed = np.empty(weights.shape[1], weights.dtype)
    for place in range(len(rows)):
        row = rows[place]
        if last[row] != place:
            continue
        gradient = gradients[place]
        other = before[place]
        if other >= 0:
            summed[:] = gradient
            while other >= 0:
                summed += gradients[other]
                other = before[other]
            gradient = summed
        last[row] = -1
        moving = velocity[row] if momentum > 0 else velocity[:0].reshape(-1)
        adagrad(weights[row], squares[row], moving, gradient, rate, momentum, eps)

"""Draws with replacement in proportion to weights, in constant time per draw.

Walker, "An Efficient Method for Generating Discrete Random Variables with General Distributions",
ACM TOMS 1977; the table is built as Vose (IEEE TSE 1991) does, in time linear in its size.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparkrec.compiled import compiled

Floats = npt.NDArray[np.float64]


class AliasTable(NamedTuple):
    """Cells of equal width: the share of each that belongs to itself, and the owner of the rest."""

    own: Tensor
    alias: Tensor


def alias_table(weights: Tensor) -> AliasTable:
    """Build the table of weights [size]; all must be at least 0, and one must be above 0."""
    shares = weights.cpu().double().numpy()
    own, alias = _cells(shares * (len(shares) / shares.sum()))
    device = weights.device
    return AliasTable(torch.from_numpy(own).float().to(device), torch.from_numpy(alias).to(device))


def draw(table: AliasTable, count: int) -> Tensor:
    """Draw `count` positions of the weights, int64, with Torch's random numbers."""
    device = table.own.device
    cells = torch.randint(len(table.own), (count,), device=device)
    kept = torch.rand(count, device=device) < table.own[cells]
    return torch.where(kept, cells, table.alias[cells])


@compiled
def _cells(
    shares: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Fill up every cell that is below the mean of 1 from a cell that is above it."""
    size = len(shares)
    own, alias = np.ones(size), np.arange(size)
    left = shares.copy()
    # Places below the mean from the front, those above it from the back.
    waiting = np.empty(size, np.int64)
    below, above = 0, size
    for place in range(size):
        if left[place] < 1:
            waiting[below] = place
            below += 1
        else:
            above -= 1
            waiting[above] = place
    while below > 0 and above < size:
        below -= 1
        small, large = waiting[below], waiting[above]
        own[small], alias[small] = left[small], large
        left[large] -= 1 - left[small]
        if left[large] < 1:
            above += 1
            waiting[below] = large
            below += 1
    return own, alias

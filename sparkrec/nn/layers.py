"""Layers shared by models."""

from collections.abc import Sequence

from torch import nn


def mlp(in_features: int, hidden: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU between them; the last one is linear.

    Parameters
    ----------
    in_features
        Width of the input.
    hidden
        Width of every layer, the output last: `(512, 256, 128)`.
    dropout
        Probability of dropping a hidden unit, after each ReLU.
    """
    layers: list[nn.Module] = []
    width = in_features
    for depth, size in enumerate(hidden):
        layers.append(nn.Linear(width, size))
        if depth < len(hidden) - 1:
            layers.append(nn.ReLU())
            if dropout:
                layers.append(nn.Dropout(dropout))
        width = size
    return nn.Sequential(*layers)

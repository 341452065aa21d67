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
        linear = nn.Linear(width, size)
        # He et al. 2015: preserves the variance through ReLU layers; Torch's default reduces it.
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if depth < len(hidden) - 1:
            layers.append(nn.ReLU())
            if dropout:
                layers.append(nn.Dropout(dropout))
        width = size
    return nn.Sequential(*layers)

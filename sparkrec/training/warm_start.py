"""Incremental training: start from an earlier model's weights, with a vocabulary that may grow."""

import torch
from torch import Tensor

from sparkrec.errors import ConfigError
from sparkrec.training.model import Network
from sparkrec.training.task import TrainingTask


def grown_weights(task: TrainingTask, previous: Network) -> dict[str, Tensor]:
    """An earlier model's weights, with rows for what is new at the ends of its tables.

    Raises
    ------
    ConfigError
        The earlier model has another architecture.
    """
    weights = dict(task.build().state_dict())
    for name, fresh in weights.items():
        old = previous.weights.get(name)
        if old is None or old.shape[1:] != fresh.shape[1:] or len(old) > len(fresh):
            shape = None if old is None else list(old.shape)
            raise ConfigError(
                f"training.model_in_path: the earlier model's {name} is {shape}, this one's "
                f"{list(fresh.shape)}; give `model` the earlier one's values"
            )
        weights[name] = torch.cat([old, fresh[len(old) :]])
    return weights

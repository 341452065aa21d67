"""Incremental training: starts from the weights of an earlier model; the vocabulary may grow."""

import torch
from torch import Tensor

from sparkrec.errors import ConfigError
from sparkrec.nn.embedding import Table
from sparkrec.retrieval.answering.network import TrainedNetwork
from sparkrec.training.spec import TrainingSpec


def grown_weights(spec: TrainingSpec, previous: TrainedNetwork) -> dict[str, Tensor]:
    """The weights of an earlier model, with new rows at the ends of its tables.

    Raises
    ------
    ConfigError
        The earlier model has another architecture.
    """
    network = spec.build({})
    weights = dict(network.state_dict())
    tables = {
        f"{name}.weight" for name, module in network.named_modules() if isinstance(module, Table)
    }
    extra = sorted(previous.weights.keys() - weights.keys())
    if extra:
        raise ConfigError(
            f"training.model_in_path: the earlier model has {extra[0]}, which this one lacks; give "
            "`model` the earlier one's values"
        )
    for name, fresh in weights.items():
        old = previous.weights.get(name)
        # Only a table may grow: a layer with more rows is another architecture.
        rows = 0 if old is None else len(old)
        fits = rows == len(fresh) or (name in tables and rows < len(fresh))
        if old is None or old.shape[1:] != fresh.shape[1:] or not fits:
            shape = None if old is None else list(old.shape)
            raise ConfigError(
                f"training.model_in_path: the earlier model's {name} is {shape}, this one's "
                f"{list(fresh.shape)}; give `model` the earlier one's values"
            )
        weights[name] = torch.cat([old, fresh[len(old) :]])
    return weights

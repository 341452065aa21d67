"""One file per model; this registry has one line for each. Imports no Spark."""

import importlib
from typing import Any

from sparkrec.errors import ConfigError

# name of the job and conf: (module, network class, config class)
_REGISTRY = {
    "dssm": ("sparkrec.models.dssm", "DSSM", "DSSMConfig"),
    "simplex": ("sparkrec.models.simplex", "SimpleX", "SimpleXConfig"),
    "hrm": ("sparkrec.models.hrm", "HRM", "HRMConfig"),
    "gru4rec": ("sparkrec.models.gru4rec", "GRU4Rec", "GRU4RecConfig"),
    "sasrec": ("sparkrec.models.sasrec", "SASRec", "SASRecConfig"),
}


def model_classes(name: str) -> tuple[type[Any], type[Any]]:
    """The network class and the config class of a model, by the name its confs use."""
    if name not in _REGISTRY:
        raise ConfigError(f"unknown model `{name}`; known: {', '.join(_REGISTRY)}")
    module_name, network, config = _REGISTRY[name]
    module = importlib.import_module(module_name)
    return getattr(module, network), getattr(module, config)

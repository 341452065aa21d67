"""The Estimator and Model classes of the models of the registry: `DSSM`, `DSSMModel`."""

import dataclasses
from typing import Any

from pyspark.ml.param import Param, Params

from sparkrec.models import model_classes
from sparkrec.retrieval.settings import Retrieval
from sparkrec.training.estimator import TwoTowerRetriever, param_name
from sparkrec.training.model import TwoTowerModel
from sparkrec.training.settings import Loss, Training


def retriever_class(name: str) -> type[TwoTowerRetriever]:
    """The Estimator class of a model of the registry; its Model class is `<name>Model`."""
    network, model_config = model_classes(name)
    model = type(f"{network.__name__}Model", (TwoTowerModel,), {"model_name": name})
    blocks = {"model": model_config, "loss": Loss, "training": Training, "retrieval": Retrieval}
    members: dict[str, Any] = {"model_name": name, "blocks": blocks, "model_class": model}
    members["__doc__"] = f"{TwoTowerRetriever.__doc__}"
    for block, kind in blocks.items():
        for field in dataclasses.fields(kind):
            param = param_name(block, field.name)
            if hasattr(TwoTowerRetriever, param):
                continue
            members[param] = Param(Params._dummy(), param, f"{block}.{field.name}")
    return type(network.__name__, (TwoTowerRetriever,), members)


DSSM = retriever_class("dssm")
DSSMModel = DSSM.model_class

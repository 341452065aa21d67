"""The Estimator and Model classes of the models of the registry: `DSSM`, `DSSMModel`, ..."""

import dataclasses
from typing import Any

from pyspark.ml.param import Param, Params

from sparkrec.models import model_classes
from sparkrec.models.sequence import SequenceNetwork
from sparkrec.retrieval.search.settings import Retrieval
from sparkrec.retrieval.two_tower import TwoTowerModel
from sparkrec.training.blocks import param_name
from sparkrec.training.estimator import TwoTowerRetriever
from sparkrec.training.sequences import SequenceRetriever
from sparkrec.training.settings import Loss, Training


def retriever_class(name: str) -> type[TwoTowerRetriever]:
    """The Estimator class of a model of the registry; its Model class is `<name>Model`."""
    network, model_config = model_classes(name)
    base = SequenceRetriever if issubclass(network, SequenceNetwork) else TwoTowerRetriever
    model = type(f"{network.__name__}Model", (TwoTowerModel,), {"model_name": name})
    blocks = {"model": model_config, "loss": Loss, "training": Training, "retrieval": Retrieval}
    members: dict[str, Any] = {"model_name": name, "config_blocks": blocks, "model_class": model}
    members["__doc__"] = f"{base.__doc__}"
    for block, kind in blocks.items():
        for field in dataclasses.fields(kind):
            param = param_name(block, field.name)
            if isinstance(getattr(base, param, None), Param):
                continue
            if hasattr(base, param):
                raise TypeError(f"{name}: the field {field.name} would hide the estimator's own")
            members[param] = Param(Params._dummy(), param, f"{block}.{field.name}")
    return type(network.__name__, (base,), members)


DSSM = retriever_class("dssm")
DSSMModel = DSSM.model_class

SimpleX = retriever_class("simplex")
SimpleXModel = SimpleX.model_class

HRM = retriever_class("hrm")
HRMModel = HRM.model_class

GRU4Rec = retriever_class("gru4rec")
GRU4RecModel = GRU4Rec.model_class

SASRec = retriever_class("sasrec")
SASRecModel = SASRec.model_class

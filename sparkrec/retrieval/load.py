"""Load a saved model of any class."""

import importlib

from sparkrec.errors import StorageError
from sparkrec.io import storage
from sparkrec.io.publishing import read_manifest
from sparkrec.retrieval.base import RetrievalModel

# Where the class of a saved model is; the models of the registry (`sparkrec.models`) are made by
# `training.retrievers`, which alone needs Torch.
_COUNTED = {
    "GlobalHotModel": "sparkrec.baselines.popularity.global_hot",
    "PersonalTopModel": "sparkrec.baselines.popularity.personal_top",
    "ItemCFModel": "sparkrec.baselines.item_to_item.item_cf",
    "SwingModel": "sparkrec.baselines.item_to_item.swing",
    "ALSModel": "sparkrec.baselines.als.als",
}
_NEURAL = "sparkrec.training.retrievers"


def load_model(path: str) -> RetrievalModel:
    """The model that any retriever's `save` wrote, local or on S3.

    Raises
    ------
    StorageError
        Nothing is there, it was never finished, or it is no model of sparkrec.
    """
    read_manifest(path)
    file = storage.join(path, "model.json")
    name = storage.read_json(file).get("class", "") if storage.exists(file) else ""
    module = importlib.import_module(_COUNTED.get(name, _NEURAL)) if name else None
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, RetrievalModel)):
        raise StorageError(f"{path} is no saved model; give the folder `model` of a run")
    return found.load(path)

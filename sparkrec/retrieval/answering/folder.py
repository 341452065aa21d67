"""The folder of a saved model: what its `model.json` says."""

from typing import Any

from sparkrec.errors import StorageError
from sparkrec.io import storage
from sparkrec.io.publishing import read_manifest

DESCRIPTION = "model.json"
_CLASSES = ("class", "searcher")


def read_description(path: str) -> dict[str, Any]:
    """The contents of a saved model's `model.json`.

    `class` and `searcher` name, as `module:Class`, the Spark Model and the class that answers
    without Spark; `params` has the model's params.

    Raises
    ------
    StorageError
        Nothing is there, it was never finished, or it is no model of this version of sparkrec.
    """
    read_manifest(path)
    file = storage.join(path, DESCRIPTION)
    if not storage.exists(file):
        raise StorageError(f"{path} is no saved model; give the folder `model` of a run")
    description = storage.read_json(file)
    if not all(":" in str(description.get(name, "")) for name in _CLASSES):
        raise StorageError(
            f"{path} is no saved model of this version of sparkrec; train and save it again"
        )
    return description

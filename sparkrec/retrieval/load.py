"""Load a saved model of any class."""

from sparkrec.errors import ConfigError, StorageError
from sparkrec.models.registry import find_class
from sparkrec.retrieval.answering.folder import saved_model
from sparkrec.retrieval.base import RetrievalModel


def load_model(path: str) -> RetrievalModel:
    """The model that any retriever's `save` wrote, local or on S3.

    Raises
    ------
    StorageError
        Nothing is there, it was never finished, a file is damaged, it is no model, or its class
        cannot be imported.
    """
    with saved_model(path) as (folder, description):
        name = description["class"]
        try:
            found = find_class(name)
        except ConfigError as error:
            raise StorageError(f"{path}: {error}") from None
        if not issubclass(found, RetrievalModel):
            raise StorageError(f"{path} is no saved model: its class is {name}")
        return found.restore(folder, description)

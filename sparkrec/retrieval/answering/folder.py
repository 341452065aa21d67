"""The folder of a saved model: its files, checked, and what its `model.json` says."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sparkrec.errors import SparkrecError, StorageError
from sparkrec.io import storage
from sparkrec.io.outputs import check_hashes, open_output
from sparkrec.scratch import scratch_folder

DESCRIPTION = "model.json"
_CLASSES = ("class", "searcher")


@contextmanager
def saved_model(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Open a saved model whose files are as they were written.

    A model on S3 is copied to the local disk for the time of the block, so every file is read once.

    Yields
    ------
    folder, description
        A local folder with the model's files, and the contents of `model.json`. `class` and
        `searcher` of it name, as `module:Class`, the Spark Model and the class that answers without
        Spark; `params` has the model's params.

    Raises
    ------
    StorageError
        Nothing is there, it was never finished, a file is damaged, or it is no model of this
        version of sparkrec. Any error of the block that shows values of the wrong kind is raised as
        one, too.
    """
    published = open_output(path)
    with contextlib.ExitStack() as stack:
        folder = published.folder
        if storage.is_s3(folder):
            folder = str(stack.enter_context(scratch_folder()))
            storage.copy_folder(published.folder, folder)
        check_hashes(published, folder)
        description = _description(path, storage.join(folder, DESCRIPTION))
        try:
            yield folder, description
        except SparkrecError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
            raise StorageError(
                f"{path} is no saved model of this version of sparkrec ({type(error).__name__}: "
                f"{str(error)[:200]}); train and save it again"
            ) from error


def _description(path: str, file: str) -> dict[str, Any]:
    if not storage.is_file(file):
        raise StorageError(f"{path} is no saved model; give the folder `model` of a run")
    description = storage.read_json(file)
    named = all(":" in str(description.get(name, "")) for name in _CLASSES)
    if not named or not isinstance(description.get("params"), dict):
        raise StorageError(
            f"{path} is no saved model of this version of sparkrec; train and save it again"
        )
    return description

"""Checks the paths of a job's config before anything is done: no job may write where it reads."""

import fnmatch
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from sparkrec.config.job import OutputJob
from sparkrec.errors import StorageError
from sparkrec.io import storage
from sparkrec.io.output_paths import check_path, check_writable
from sparkrec.io.outputs import MANIFEST, current_run, resolve

# Keys of models that a run may take from the run before it of the same output.
_OWN_MODELS = ("init_model_path", "training.model_in_path")
_MODELS = ("model_path", *_OWN_MODELS)


def check_paths(config: Any) -> set[str]:
    """Raise StorageError if a path of the config cannot be used.

    Its scheme may be unknown, the output may overlap an input, or this process may have no right to
    write to the output.

    Two paths overlap if they are the same folder, links resolved, or one is below the other. Raw
    input below the folder of an output is allowed, because nothing is ever read or removed there.
    So is a model of the output's own current run.

    Returns
    -------
    set of str
        The folders and files that the job reads, pointers followed.
    """
    inputs = input_paths(config)
    for path in inputs.values():
        storage.is_s3(path)  # raises for an unknown scheme
    folders = {path: resolve(path) for path in inputs.values()}
    if not isinstance(config, OutputJob):
        return set(folders.values())
    check_path(config.output_path)
    output = storage.real_path(config.output_path)
    for key, path in inputs.items():
        found = _overlap(output, path, folders[path])
        if found is not None and not (
            key in _OWN_MODELS and _is_own(config.output_path, folders[path])
        ):
            raise StorageError(
                f"output_path {config.output_path} {found} {key}: {path}; a job does not write "
                "where it reads, so choose another output_path"
            )
    check_writable(config.output_path)
    return set(folders.values())


def _overlap(output: str, path: str, folder: str) -> str | None:
    """How the real path of an output overlaps an input, or None."""
    if any(char in path for char in "*?["):
        return "lies in" if fnmatch.fnmatch(output, f"{storage.real_path(path)}*") else None
    published = storage.is_file(storage.join(folder, MANIFEST))
    for place in (storage.real_path(path), storage.real_path(folder)):
        if output == place:
            return "is the same as"
        if output.startswith(f"{place}/"):
            return "lies in"
        if published and place.startswith(f"{output}/"):
            return "holds"
    return None


def _is_own(output_path: str, folder: str) -> bool:
    run = current_run(output_path)
    own = storage.real_path(storage.join(output_path, run)) if run is not None else None
    return own is not None and storage.real_path(folder).startswith(f"{own}/")


def input_bytes(folders: Iterable[str]) -> int:
    """Size of all files that a job reads; a path with a wildcard counts as nothing."""
    return sum(file.size for folder in folders for file in storage.list_files(folder))


def input_paths(config: Any) -> dict[str, str]:
    """The paths that a job reads, by their keys in the conf."""
    found: dict[str, str] = {}
    block = getattr(config, "input", None)
    tables = getattr(config, "tables", None)
    if tables is not None:
        found |= {f"input.{name}": path for name, path in tables.paths().items()}
    elif is_dataclass(block):
        for field in fields(block):
            value = getattr(block, field.name)
            if isinstance(value, str):
                found[f"input.{field.name}"] = value
            elif isinstance(path := getattr(value, "path", None), str):
                found[f"input.{field.name}.path"] = path
    for key in (*_MODELS, "schema.path"):
        value = config
        for name in key.split("."):
            value = getattr(value, name, None)
        if isinstance(value, str):
            found[key] = value
    return found

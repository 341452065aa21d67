"""Outputs, and how they are read.

An output is a folder of *versions*, `<path>/<run id>/`. Each has a manifest, `_sparkrec.json`: its
files, their sizes, and what made them. The *pointer*, `<path>/LATEST`, is one line with the run id
of the current version. Readers follow it, and read the files of the manifest and no others.

A version may have *parts*, folders with a manifest of their own: the tables of a split, the model
of a run. `X/train` names the part `train` of the current version of `X` (see `resolve`).

`sparkrec.io.publishing` writes outputs.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparkrec.errors import StorageError
from sparkrec.io import storage

MANIFEST = "_sparkrec.json"
POINTER = "LATEST"
WORK = "work"
CHECKPOINTS = f"{WORK}/checkpoints"

# In the folder of a version while it is written: who writes it.
CLAIM = "_sparkrec.writing.json"
RUN_ID = re.compile(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{4}")
# How far above a part its output may be: `<run>/recommendations/seen_kept`.
DEPTH = 3


@dataclass(frozen=True)
class Published:
    """A finished output, or a part of one.

    Attributes
    ----------
    folder
        The folder with the files, pointers followed.
    manifest
        Contents of its manifest; `files` are those that belong to it.
    has_other_files
        Whether the folder holds files that do not belong to it.
    """

    folder: str
    manifest: dict[str, Any]
    has_other_files: bool

    def path(self, *parts: str) -> str:
        """A path below the folder."""
        return storage.join(self.folder, *parts)


# ------------------------------------------------------------------------------------ reading


def resolve(path: str) -> str:
    """The folder of an output's current version, or of a part of it.

    `X` gives `X/<run id>` if `X` has a pointer, and `X/train` gives `X/<run id>/train` if the
    current version of `X` has it. Any other path is returned as it is.

    Raises
    ------
    StorageError
        A pointer is damaged.
    """
    at, rest = path, ""
    for _ in range(DEPTH):
        run_id = current_run(at)
        if run_id is not None:
            target = storage.join(at, run_id, rest) if rest else storage.join(at, run_id)
            if not rest or storage.exists(target):
                return target
        elif not rest and storage.is_file(storage.join(path, MANIFEST)):
            return path
        above = storage.parent(at)
        if above is None:
            break
        at, rest = above, storage.join(storage.name_of(at), rest) if rest else storage.name_of(at)
    return path


def current_run(path: str) -> str | None:
    """The run id that the pointer of an output names; None if the path has no pointer."""
    pointer = storage.join(path, POINTER)
    content = storage.read_if_there(pointer)
    if content is None:
        return None
    text = content[:200].decode("utf-8", errors="replace").strip()
    if not RUN_ID.fullmatch(text):
        if not versions(path):
            return None  # a file of another program
        raise StorageError(
            f"{pointer} does not hold a run id, but {text!r}; "
            f"python -m sparkrec.io.rollback {path} --list shows the runs, and --to names one again"
        )
    return text


def runs(path: str) -> list[str]:
    """The finished versions of an output, oldest first."""
    return [run for run in versions(path) if has_file(path, run, MANIFEST)]


def is_published(path: str) -> bool:
    """Whether the path is a finished output, or a part of one."""
    return storage.is_file(storage.join(resolve(path), MANIFEST))


def open_output(path: str) -> Published:
    """Look up a finished output or part, and compare its files with its manifest.

    Costs reading small files (the manifest, and pointers up to three folders above), and listing
    one folder.

    Raises
    ------
    StorageError
        There is no such path, the output was not finished, or a file is missing or has another size
        than when it was written.
    """
    folder = resolve(path)
    sizes = {file.name: file.size for file in storage.list_files(folder)}
    if MANIFEST not in sizes:
        raise StorageError(_why_not_published(path, folder))
    manifest = storage.read_json(storage.join(folder, MANIFEST))
    for name, size in listed_files(manifest, folder).items():
        if sizes.get(name) != size:
            found = f"has {sizes[name]:,} bytes, not {size:,}" if name in sizes else "is missing"
            raise StorageError(
                f"{storage.join(folder, name)} {found}, so it is not what was written; make "
                f"{path} again, or go back to the run before: python -m sparkrec.io.rollback PATH"
            )
    others = set(sizes) - set(listed_files(manifest, folder)) - {MANIFEST}
    return Published(folder, manifest, bool(others))


def read_manifest(path: str) -> dict[str, Any]:
    """The manifest of a finished output, after the checks of `open_output`."""
    return open_output(path).manifest


def check_hashes(published: Published, folder: str | None = None) -> None:
    """Raise StorageError unless every file has the content that it was written with.

    Reads all files, from `folder` if this is a copy of the output. Files without a hash in the
    manifest (those of tables) are passed over.
    """
    for file in published.manifest["files"]:
        name, expected = file["name"], file.get("sha256")
        copy = storage.join(folder or published.folder, name)
        if expected is not None and sha256_of(copy) != expected:
            raise StorageError(
                f"{published.path(name)} is damaged: its content is not what was written; make "
                "it again, or go back to the run before: python -m sparkrec.io.rollback PATH"
            )


def listed_files(manifest: Mapping[str, Any], folder: str) -> dict[str, int]:
    """Size of each file of a manifest, by name."""
    try:
        return {str(file["name"]): int(file["size"]) for file in manifest["files"]}
    except (KeyError, TypeError, ValueError):
        raise StorageError(f"{folder}/{MANIFEST} is damaged: it lists no files") from None


def _why_not_published(path: str, folder: str) -> str:
    if not storage.exists(path) and folder == path:
        return f"no such path: {path}"
    run = current_run(path)
    if run is not None:
        return (
            f"{storage.join(path, POINTER)} names the run {run}, which is not there as a whole; "
            f"python -m sparkrec.io.rollback {path} --list shows the runs that are"
        )
    return (
        f"{path} is not a finished sparkrec output (it has no {POINTER}); run the job that makes "
        "it again"
    )


def is_foreign(path: str) -> bool:
    """Whether the path exists and nothing of sparkrec, finished or not, is there."""
    return storage.exists(path) and resolve(path) == path and not _is_ours(path)


def _is_ours(path: str) -> bool:
    return storage.is_file(storage.join(path, MANIFEST)) or bool(versions(path))


def versions(path: str) -> list[str]:
    """The versions of an output, finished or not, oldest first."""
    return [name for name in storage.folders(path) if RUN_ID.fullmatch(name)]


def has_file(path: str, run: str, name: str) -> bool:
    """Whether a version of an output has a file."""
    return storage.is_file(storage.join(path, run, name))


def sha256_of(path: str) -> str:
    """The SHA-256 hash of a file's content."""
    return hashlib.sha256(storage.read_bytes(path)).hexdigest()

"""Where a job may write: paths that can be an output, and whose output is there."""

import os
from collections.abc import Sequence
from pathlib import Path

from sparkrec.errors import StorageError
from sparkrec.io import s3, storage
from sparkrec.io.lease import LEASE
from sparkrec.io.outputs import CLAIM, DEPTH, MANIFEST, RUN_ID, current_run, versions

_LONGEST_NAME = 255
# An object that never exists, and the version that it would have.
_PROBE = "00000000-000000-000000-0000/_sparkrec.probe"
_NO_ETAG = '"00000000000000000000000000000000"'


def check_output(
    path: str, made_by: str, overwrite: bool = False, parts: Sequence[str] = ()
) -> None:
    """Raise StorageError if an output must not be written to `path`.

    Parameters
    ----------
    made_by
        What is going to write it. The same may write new versions; anything else needs `overwrite`.
    parts
        Names of its parts, if all that it writes are parts. The folder may then hold other things.
    """
    check_path(path)
    for above in _folders_above(path):
        run = current_run(above)
        inside = path_below(path, above)
        if run is not None and storage.exists(storage.join(above, run, inside)):
            raise StorageError(
                f"output path {path} is `{inside}` of the output {above}; choose another "
                "output_path"
            )
    if overwrite:
        return
    maker = _maker(path)
    if maker is not None:
        if maker == made_by:
            return
        raise StorageError(
            f"output path {path} was made by `{maker}`, not by `{made_by}`; choose another "
            "output_path, or set overwrite: true to replace it"
        )
    for name in parts or ("",):
        there = storage.join(path, name) if name else path
        names = [file.name for file in storage.list_files(there)]
        held = [name or there for name in names if name != LEASE and not _in_version(name)]
        # A version without a maker is of a writer that was killed early, or begins at this moment.
        if held and not versions(path):
            raise StorageError(
                f"output path {there} exists and is not an output of sparkrec (it holds "
                f"{', '.join(held[:3])}); choose another output_path, or set overwrite: true to "
                "write there all the same"
            )


def check_path(path: str) -> None:
    """Raise StorageError unless the path can be the folder of an output."""
    shown = f"output path {path[:200]!r}"
    again = "; choose a folder of its own for the output"
    if not path.strip():
        raise StorageError(f"the output path is empty{again}")
    if any(ord(char) < 32 for char in path):
        raise StorageError(f"{shown} has a control character{again}")
    names = path.partition("://")[2].split("/") if storage.is_s3(path) else path.split("/")
    if ".." in names:
        raise StorageError(f"{shown} has a part `..`; write the path without it")
    if any(len(name.encode()) > _LONGEST_NAME for name in names):
        raise StorageError(f"{shown} has a name of more than {_LONGEST_NAME} bytes{again}")
    if any(RUN_ID.fullmatch(name) for name in names):
        raise StorageError(f"{shown} is inside a run of another output{again}")
    if storage.is_s3(path):
        if "/" not in storage.real_path(path).removeprefix("s3://").rstrip("/"):
            raise StorageError(f"{shown} is a whole bucket{again}")
        return
    local = storage.local_path(path)
    try:
        real = local.resolve()
        exists = real.exists()
    except (OSError, RuntimeError) as error:
        raise StorageError(f"{shown} cannot be used: {error}") from None
    if real in (Path("/"), Path.home(), Path.cwd()):
        raise StorageError(f"{shown} is {real}{again}")
    if not exists and (real.parent == Path("/") or local.is_symlink()):
        what = "a link to nothing" if local.is_symlink() else "a new folder of the root"
        raise StorageError(f"{shown} is {what}{again}")
    if exists and not real.is_dir():
        raise StorageError(f"{shown} is a file or a device, not a folder{again}")


def check_writable(path: str) -> None:
    """Raise StorageError if this process has no right to write to an output path.

    Nothing is left there. On S3 a small object is written on a condition that does not hold; only a
    store without conditional writes writes it, and then it is removed.
    """
    if storage.is_s3(path):
        probe = storage.join(path, _PROBE)
        try:
            if s3.put_if(probe, b"", _NO_ETAG):
                storage.remove(probe)
        except StorageError as error:
            raise StorageError(f"output path {path} cannot be written to: {error}") from None
        return
    place = storage.local_path(path).absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise StorageError(
            f"output path {path} lies below {place}, which is not a folder; choose another "
            "output_path"
        )
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
        raise StorageError(
            f"output path {path}: no permission to write to {place}; change its owner or mode, or "
            "choose another output_path"
        )


def path_below(path: str, folder: str) -> str:
    """The path relative to a folder that is above it."""
    return storage.real_path(path)[len(storage.real_path(folder)) :].strip("/")


def _folders_above(path: str) -> list[str]:
    found: list[str] = []
    at = storage.parent(storage.real_path(path))
    while at is not None and len(found) < DEPTH:
        found.append(at)
        at = storage.parent(at)
    return found


def _in_version(name: str) -> bool:
    return RUN_ID.fullmatch(name.partition("/")[0]) is not None


def _maker(path: str) -> str | None:
    """What made the current version, or else the newest unfinished one."""
    run = current_run(path)
    for version in [run] if run is not None else reversed(versions(path)):
        # In this order: a writer that ends meanwhile writes the manifest, then removes the claim.
        for mark in (CLAIM, MANIFEST):
            about = storage.read_json_if_there(storage.join(path, version, mark))
            if about is not None:
                return str(about.get("made_by", ""))
    return None

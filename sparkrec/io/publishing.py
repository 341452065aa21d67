"""Publishes outputs: an output appears as a whole or not at all.

An output is *published* when it is complete and has a manifest (`_sparkrec.json`: its files, their
sizes, and the job that made it). It is written to a staging folder next to its final path. On a
local disk it is then renamed; on S3 the objects are copied and the manifest is written last.
Readers require the manifest. A path without a manifest belongs to something else and is never
overwritten, unless the conf says `overwrite: true`. The next job that writes the same output
removes what a killed job left behind.
"""

import glob
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sparkrec import __version__
from sparkrec.errors import StorageError
from sparkrec.io import s3, storage

MANIFEST = "_sparkrec.json"
_CLAIM = "_sparkrec.claim.json"


def read_manifest(path: str) -> dict[str, Any]:
    """Read the manifest of a published output.

    Raises
    ------
    StorageError
        The path does not exist, or the output was not finished.
    """
    if is_published(path):
        return storage.read_json(storage.join(path, MANIFEST))
    if not storage.exists(path):
        raise StorageError(f"no such path: {path}")
    raise StorageError(
        f"{path} is not a finished sparkrec output (it has no {MANIFEST}); "
        "run the job that makes it again"
    )


def is_published(path: str) -> bool:
    """Whether the path has a finished output."""
    return storage.exists(storage.join(path, MANIFEST))


def is_foreign(path: str) -> bool:
    """Whether the path exists and is neither a finished nor an unfinished output of sparkrec."""
    marks = (storage.join(path, mark) for mark in (_CLAIM, MANIFEST))
    return storage.exists(path) and not any(storage.exists(mark) for mark in marks)


def check_output(path: str, made_by: str, overwrite: bool = False) -> None:
    """Raise StorageError if `path` exists and was not made by `made_by`."""
    if overwrite or not storage.exists(path):
        return
    for mark in (_CLAIM, MANIFEST):
        if storage.exists(storage.join(path, mark)):
            maker = str(storage.read_json(storage.join(path, mark)).get("made_by", ""))
            if maker == made_by:
                return
            raise StorageError(
                f"output path {path} was made by `{maker}`, not by `{made_by}`; choose another "
                "output_path, or set overwrite: true to replace it"
            )
    names = [file.name or path for file in storage.list_files(path)[:3]]
    raise StorageError(
        f"output path {path} exists and is not an output of sparkrec (it holds "
        f"{', '.join(names) or 'folders'}); choose another output_path, or set overwrite: true "
        "to replace it"
    )


@contextmanager
def publish(
    path: str, made_by: str, overwrite: bool = False, about: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Write an output as a whole or not at all.

    Yields a staging path to write to. When the `with` block ends, the manifest is added and the
    output appears under `path`. If the block raises, nothing appears.

    Parameters
    ----------
    made_by
        Name of the job that makes the output; another run of this job may replace it.
    overwrite
        Whether a path that something else made may be replaced.
    about
        Other entries of the manifest (rows, content hash, ...); may be filled in the block.
    """
    _sweep(path)
    check_output(path, made_by, overwrite)
    staging = _sibling(path, "staging")
    _make_parent(path)
    try:
        yield staging
        files = [vars(file) for file in storage.list_files(staging)]
        if not files:
            raise StorageError(f"nothing was written for {path}")
        manifest = {"made_by": made_by, "sparkrec": __version__, **(about or {}), "files": files}
        if storage.is_s3(path):
            _move_s3(staging, path, manifest)
        else:
            storage.write_json(storage.join(staging, MANIFEST), manifest)
            _swap_local(staging, path)
    finally:
        storage.remove(staging)


def _sibling(path: str, kind: str, unique: str | None = None) -> str:
    parent, _, name = path.rstrip("/").rpartition("/")
    label = f".{name}.{kind}-{uuid.uuid4().hex if unique is None else unique}"
    return storage.join(parent, label) if parent or path.startswith("/") else label


def _sweep(path: str) -> None:
    """Remove what a killed job that wrote the same output left behind."""
    if storage.is_s3(path):
        s3.delete(path, list(s3.objects_with_prefix(_sibling(path, "staging", ""))))
        return
    target = storage.local_path(path)
    if not target.parent.is_dir():
        return
    name = glob.escape(target.name)
    for old in target.parent.glob(f".{name}.replaced-*"):
        # The job was killed between the two renames of a swap, so the old output is still valid.
        if target.exists():
            storage.remove(str(old))
        else:
            old.rename(target)
    for left in target.parent.glob(f".{name}.staging-*"):
        storage.remove(str(left))


def _make_parent(path: str) -> None:
    """Make the parent folder of the output; raises StorageError, before any work, if it cannot."""
    if storage.is_s3(path):
        return
    try:
        storage.local_path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def _swap_local(staging: str, path: str) -> None:
    target, new = storage.local_path(path), storage.local_path(staging)
    if target.exists():
        old = storage.local_path(_sibling(path, "replaced"))
        target.rename(old)
        new.rename(target)
        storage.remove(str(old))
    else:
        new.rename(target)


def _move_s3(staging: str, path: str, manifest: Mapping[str, Any]) -> None:
    """Copy to the final path; until the manifest is written, a claim marks it as ours."""
    _take(path, str(manifest["made_by"]))
    client, bucket, source = s3.locate(staging)
    _, _, target = s3.locate(path)
    for file in storage.list_files(staging):
        origin = {"Bucket": bucket, "Key": f"{source}/{file.name}"}
        with s3.errors(path):
            client.copy(origin, bucket, f"{target}/{file.name}")
    storage.write_json(storage.join(path, MANIFEST), manifest)
    storage.remove(storage.join(path, _CLAIM))


def _take(path: str, made_by: str, keep: bool = False) -> None:
    """Empty an earlier output (with `keep`, only remove its manifest), and leave a claim in it.

    If this run is killed, the claim tells the next run that the rest is an output of the same job.
    """
    if not storage.is_s3(path) and storage.local_path(path).is_file():
        storage.remove(path)
    storage.write_json(storage.join(path, _CLAIM), {"made_by": made_by, "sparkrec": __version__})
    storage.remove(storage.join(path, MANIFEST))
    if keep:
        return
    if storage.is_s3(path):
        _, _, key = s3.locate(path)
        s3.delete(path, [name for name in s3.objects(path) if name != f"{key}/{_CLAIM}"])
        return
    for child in storage.local_path(path).iterdir():
        if child.name != _CLAIM:
            storage.remove(str(child))


def claim(path: str, made_by: str, overwrite: bool = False, keep: bool = False) -> None:
    """Begin a run folder, whose parts are published one by one, and which `finish` completes.

    An earlier run of the same job is removed, unless `keep` is true (to resume it). The folder has
    no manifest of its own until `finish`.
    """
    check_output(path, made_by, overwrite)
    _take(path, made_by, keep)


def finish(path: str, made_by: str, about: Mapping[str, Any]) -> None:
    """Complete a run folder: write its manifest and remove the claim."""
    files = [vars(file) for file in storage.list_files(path) if file.name != _CLAIM]
    manifest = {"made_by": made_by, "sparkrec": __version__, **about, "files": files}
    storage.write_json(storage.join(path, MANIFEST), manifest)
    storage.remove(storage.join(path, _CLAIM))

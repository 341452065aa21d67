"""Publishes outputs: an output appears as a whole or not at all, and nothing old is lost.

A job writes a new version of its output (see `sparkrec.io.outputs`), then its manifest, and last
the pointer. So there is a whole output at every moment, on a local disk and on S3 alike, and a
writer that is killed leaves the old version in force. The version before is kept, too
(`python -m sparkrec.io.rollback` goes back to it).

What a version needs only while it is written is in its folder `work/`. It is removed at the end.
Checkpoints of a run that did not end (`work/checkpoints/`) are kept until the run is resumed, or
another run of the same output ends.

An output has one writer at a time (see `sparkrec.io.lease`).
"""

import contextlib
import datetime as dt
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sparkrec import __version__
from sparkrec.errors import StorageError
from sparkrec.io import storage
from sparkrec.io.lease import hold
from sparkrec.io.output_paths import check_output
from sparkrec.io.outputs import (
    CHECKPOINTS,
    CLAIM,
    MANIFEST,
    POINTER,
    WORK,
    current_run,
    has_file,
    listed_files,
    runs,
    sha256_of,
    versions,
)

log = logging.getLogger("sparkrec.io")

KEPT_RUNS = 2


@contextmanager
def publish(
    path: str,
    made_by: str,
    overwrite: bool = False,
    about: Mapping[str, Any] | None = None,
    *,
    parts: Sequence[str] = (),
    keep: int = KEPT_RUNS,
    resume: bool = False,
    hashes: bool = False,
) -> Iterator[str]:
    """Write a new version of an output.

    Yields the folder to write to. When the `with` block ends, the version gets its manifest and
    becomes the current one. If the block raises, the output stays as it was; of the new version
    only checkpoints are kept.

    Parameters
    ----------
    made_by
        What makes the output, as in `check_output`.
    overwrite
        Whether a path that something else made may be written to.
    about
        Other entries of the manifest (rows, content hash, ...); may be filled in the block.
    parts
        Names of its parts, if all that it writes are parts.
    keep
        Number of versions to keep, with the new one.
    resume
        Whether to go on with the newest version that was not finished and has checkpoints.
    hashes
        Whether the manifest has a hash of every file, which readers then check.

    Raises
    ------
    StorageError
        The path must not be written to, another process writes it, or nothing was written.
    """
    check_output(path, made_by, overwrite, parts)
    with hold(path) as lease:
        run = _unfinished(path, made_by) if resume else None
        if run is None:
            run = _new_run_id()
            if resume:
                log.warning("%s has no unfinished run to resume; a new one begins", path)
        folder = storage.join(path, run)
        _sweep(path, keep_checkpoints=True)
        storage.write_json(
            storage.join(folder, CLAIM), {"made_by": made_by, "sparkrec": __version__}
        )
        try:
            yield folder
            _write_manifest(folder, {"made_by": made_by, **(about or {})}, hashes)
        except BaseException:
            _discard(folder)
            raise
        before = current_run(path)
        lease.while_held(lambda: _point(path, run))
        _clean_up(path, run, before, keep)


@contextmanager
def part(
    folder: str, about: Mapping[str, Any] | None = None, hashes: bool = False
) -> Iterator[str]:
    """Write a part of a version: a folder that has a manifest when it is complete.

    Yields the folder, which is empty; `about` and `hashes` are those of `publish`.
    """
    storage.remove(folder)
    yield folder
    _write_manifest(folder, dict(about or {}), hashes)


def point_to(path: str, run: str) -> None:
    """Make a finished version the current one."""
    with hold(path) as lease:
        lease.while_held(lambda: _point(path, run))


def _point(path: str, run: str) -> None:
    storage.write_bytes(storage.join(path, POINTER), f"{run}\n".encode())


def _new_run_id() -> str:
    """A run id: the time in UTC, by which versions are ordered, and four random digits."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}"


def _unfinished(path: str, made_by: str) -> str | None:
    """The newest version with checkpoints that the same maker did not finish."""
    for run in reversed(versions(path)):
        if has_file(path, run, MANIFEST):
            continue
        claim = storage.read_json_if_there(storage.join(path, run, CLAIM))
        if (
            claim is not None
            and claim.get("made_by") == made_by
            and storage.exists(storage.join(path, run, CHECKPOINTS))
        ):
            return run
    return None


def _write_manifest(folder: str, about: Mapping[str, Any], hashes: bool) -> None:
    files: list[dict[str, Any]] = []
    for file in storage.list_files(folder):
        if file.name in (CLAIM, MANIFEST) or file.name.startswith(f"{WORK}/"):
            continue
        files.append({"name": file.name, "size": file.size})
        if hashes:
            files[-1]["sha256"] = sha256_of(storage.join(folder, file.name))
    if not files:
        raise StorageError(f"nothing was written for {folder}")
    manifest = {"sparkrec": __version__, **about, "files": files}
    storage.write_json(storage.join(folder, MANIFEST), manifest)


def _discard(folder: str) -> None:
    """Remove a version that failed, except its checkpoints; the first error is the one to show."""
    with contextlib.suppress(StorageError):
        if not storage.exists(storage.join(folder, CHECKPOINTS)):
            storage.remove(folder)
            return
        names = [file.name for file in storage.list_files(folder)]
        kept = (CLAIM, f"{CHECKPOINTS}/")
        storage.remove_files(folder, [name for name in names if not name.startswith(kept)])
        storage.remove_empty_folders(folder)


def _sweep(path: str, keep_checkpoints: bool = False) -> None:
    """Remove what killed writers left; the caller holds the lease, so no writer is alive."""
    storage.remove_unfinished_files(path, POINTER)
    for run in versions(path):
        folder = storage.join(path, run)
        if has_file(path, run, MANIFEST):
            continue
        if not has_file(path, run, CLAIM):
            # A writer was killed before it had claimed the version, or after it had removed it.
            storage.remove_unfinished_files(folder, CLAIM)
            storage.remove_empty_folders(folder)
            continue
        if not (keep_checkpoints and storage.exists(storage.join(folder, CHECKPOINTS))):
            # The claim goes last: it is what tells the folder from one that others made.
            names = [file.name for file in storage.list_files(folder)]
            storage.remove_files(folder, [name for name in names if name != CLAIM])
            storage.remove(folder)


def _clean_up(path: str, run: str, before: str | None, keep: int) -> None:
    """Remove what is no longer needed. The output is there, so a failure is only a warning."""
    folder = storage.join(path, run)
    try:
        storage.remove(storage.join(folder, CLAIM))
        storage.remove(storage.join(folder, WORK))
        _prune(path, [run, before], keep)
        _sweep(path)
    except StorageError as error:
        log.warning("%s is published, but old files of it could not be removed: %s", path, error)


def _prune(path: str, first: Sequence[str | None], keep: int) -> None:
    """Remove all finished versions but `keep`: those of `first`, and then the newest."""
    finished = runs(path)
    order = [run for run in first if run in finished]
    order += [run for run in reversed(finished) if run not in order]
    for run in order[keep:]:
        folder = storage.join(path, run)
        manifest = storage.read_json(storage.join(folder, MANIFEST))
        storage.remove_files(folder, [*listed_files(manifest, folder), MANIFEST])
        storage.remove_empty_folders(folder)

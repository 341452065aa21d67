"""Publishes outputs: an output appears as a whole or not at all, and nothing old is lost.

An output is a folder of *versions*. A job writes a new version, `<path>/<run id>/`, with a manifest
(`_sparkrec.json`: its files, their sizes, and what made them). The last thing that it writes is the
*pointer* `<path>/LATEST`, one line with the run id. Readers follow the pointer, and read the files
of the manifest and no others. So every moment has a whole output, on a local disk and on S3 alike,
and a writer that is killed leaves the old version in force. The version before is kept, too
(`python -m sparkrec.io.rollback` goes back to it).

A version may have *parts*, folders with a manifest of their own: the tables of a split, the model
of a run. `X/train` names the part `train` of the current version of `X` (see `resolve`).

What a version needs only while it is written is in its folder `work/`. It is removed at the end.
Checkpoints of a run that did not end (`work/checkpoints/`) are kept until the run is resumed, or
another run of the same output ends.

An output has one writer at a time (see `sparkrec.io.lease`).
"""

import contextlib
import datetime as dt
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkrec import __version__
from sparkrec.errors import StorageError
from sparkrec.io import storage
from sparkrec.io.lease import LEASE, hold

MANIFEST = "_sparkrec.json"
POINTER = "LATEST"
WORK = "work"
CHECKPOINTS = f"{WORK}/checkpoints"
KEPT_RUNS = 2

# In the folder of a version while it is written: who writes it.
_CLAIM = "_sparkrec.writing.json"
_RUN_ID = re.compile(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{4}")
# How far above a part its output may be: `<run>/recommendations/seen_kept`.
_DEPTH = 3
_LONGEST_NAME = 255


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
        A pointer is damaged, or what it names is not there.
    """
    at, rest = path, ""
    for _ in range(_DEPTH):
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
    if not storage.is_file(pointer):
        return None
    text = storage.read_bytes(pointer)[:200].decode("utf-8", errors="replace").strip()
    if not _RUN_ID.fullmatch(text):
        if not _versions(path):
            return None  # a file of another program
        raise StorageError(
            f"{pointer} does not hold a run id, but {text!r}; "
            f"`python -m sparkrec.io.rollback {path}` lists the runs and names one again"
        )
    return text


def runs(path: str) -> list[str]:
    """The finished versions of an output, oldest first."""
    return [run for run in _versions(path) if _has(path, run, MANIFEST)]


def is_published(path: str) -> bool:
    """Whether the path is a finished output, or a part of one."""
    return storage.is_file(storage.join(resolve(path), MANIFEST))


def open_output(path: str) -> Published:
    """Look up a finished output or part, and compare its files with its manifest.

    Costs reading two small files, and listing one folder.

    Raises
    ------
    StorageError
        There is no such path, the output was not finished, or a file is missing or has another size
        than when it was written.
    """
    folder = resolve(path)
    if not storage.is_file(storage.join(folder, MANIFEST)):
        raise StorageError(_why_not_published(path, folder))
    manifest = storage.read_json(storage.join(folder, MANIFEST))
    sizes = {file.name: file.size for file in storage.list_files(folder)}
    for name, size in _listed(manifest, folder).items():
        if sizes.get(name) != size:
            found = f"has {sizes[name]:,} bytes, not {size:,}" if name in sizes else "is missing"
            raise StorageError(
                f"{storage.join(folder, name)} {found}, so it is not what was written; make "
                f"{path} again, or go back to the run before: python -m sparkrec.io.rollback PATH"
            )
    others = set(sizes) - set(_listed(manifest, folder)) - {MANIFEST}
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
        if expected is not None and _sha256(copy) != expected:
            raise StorageError(
                f"{published.path(name)} is damaged: its content is not what was written; make "
                "it again, or go back to the run before: python -m sparkrec.io.rollback PATH"
            )


def _listed(manifest: Mapping[str, Any], folder: str) -> dict[str, int]:
    try:
        return {str(file["name"]): int(file["size"]) for file in manifest["files"]}
    except (KeyError, TypeError, ValueError):
        raise StorageError(f"{folder}/{MANIFEST} is damaged: it lists no files") from None


def _why_not_published(path: str, folder: str) -> str:
    if not storage.exists(path) and folder == path:
        return f"no such path: {path}"
    return (
        f"{path} is not a finished sparkrec output (it has no {POINTER}); run the job that makes "
        "it again"
    )


def is_foreign(path: str) -> bool:
    """Whether the path exists and nothing of sparkrec, finished or not, is there."""
    return storage.exists(path) and resolve(path) == path and not _is_ours(path)


def _is_ours(path: str) -> bool:
    return storage.is_file(storage.join(path, MANIFEST)) or bool(_versions(path))


def _versions(path: str) -> list[str]:
    return [name for name in storage.folders(path) if _RUN_ID.fullmatch(name)]


def _has(path: str, run: str, name: str) -> bool:
    return storage.is_file(storage.join(path, run, name))


# ------------------------------------------------------------------------------------ writing


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
    if _versions(path):  # a writer was killed before it could say who it is
        return
    for name in parts or ("",):
        there = storage.join(path, name) if name else path
        held = [file.name or there for file in storage.list_files(there) if file.name != LEASE]
        if held:
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
    if any(_RUN_ID.fullmatch(name) for name in names):
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


def path_below(path: str, folder: str) -> str:
    """The path relative to a folder that is above it."""
    return storage.real_path(path)[len(storage.real_path(folder)) :].strip("/")


def _folders_above(path: str) -> list[str]:
    found: list[str] = []
    at = storage.parent(storage.real_path(path))
    while at is not None and len(found) < _DEPTH:
        found.append(at)
        at = storage.parent(at)
    return found


def _maker(path: str) -> str | None:
    """What made the current version, or else the newest unfinished one."""
    run = current_run(path)
    for version in [run] if run is not None else reversed(_versions(path)):
        for mark in (MANIFEST, _CLAIM):
            if _has(path, version, mark):
                return str(storage.read_json(storage.join(path, version, mark)).get("made_by", ""))
    return None


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
        folder = storage.join(path, run)
        _sweep(path, keep_checkpoints=True)
        storage.write_json(
            storage.join(folder, _CLAIM), {"made_by": made_by, "sparkrec": __version__}
        )
        try:
            yield folder
            _write_manifest(folder, {"made_by": made_by, **(about or {})}, hashes)
        except BaseException:
            _discard(folder)
            raise
        before = current_run(path)
        lease.while_held(lambda: _point(path, run))
        storage.remove(storage.join(folder, _CLAIM))
        storage.remove(storage.join(folder, WORK))
        _prune(path, [run, before], keep)
        _sweep(path)


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
    for run in reversed(_versions(path)):
        claim = storage.join(path, run, _CLAIM)
        if (
            not _has(path, run, MANIFEST)
            and storage.is_file(claim)
            and storage.read_json(claim).get("made_by") == made_by
            and storage.exists(storage.join(path, run, CHECKPOINTS))
        ):
            return run
    return None


def _write_manifest(folder: str, about: Mapping[str, Any], hashes: bool) -> None:
    files: list[dict[str, Any]] = []
    for file in storage.list_files(folder):
        if file.name in (_CLAIM, MANIFEST) or file.name.startswith(f"{WORK}/"):
            continue
        files.append({"name": file.name, "size": file.size})
        if hashes:
            files[-1]["sha256"] = _sha256(storage.join(folder, file.name))
    if not files:
        raise StorageError(f"nothing was written for {folder}")
    manifest = {"sparkrec": __version__, **about, "files": files}
    storage.write_json(storage.join(folder, MANIFEST), manifest)


def _sha256(path: str) -> str:
    return hashlib.sha256(storage.read_bytes(path)).hexdigest()


def _discard(folder: str) -> None:
    """Remove a version that failed, except its checkpoints; the first error is the one to show."""
    with contextlib.suppress(StorageError):
        if not storage.exists(storage.join(folder, CHECKPOINTS)):
            storage.remove(folder)
            return
        names = [file.name for file in storage.list_files(folder)]
        kept = (_CLAIM, f"{CHECKPOINTS}/")
        storage.remove_files(folder, [name for name in names if not name.startswith(kept)])
        storage.remove_empty_folders(folder)


def _sweep(path: str, keep_checkpoints: bool = False) -> None:
    """Remove what killed writers left; the caller holds the lease, so no writer is alive."""
    storage.remove_unfinished_files(path, POINTER)
    for run in _versions(path):
        folder = storage.join(path, run)
        if _has(path, run, MANIFEST):
            continue
        if not _has(path, run, _CLAIM):
            # A writer was killed after it had removed all files of a version.
            storage.remove_empty_folders(folder)
            continue
        if not (keep_checkpoints and storage.exists(storage.join(folder, CHECKPOINTS))):
            # The claim goes last: it is what tells the folder from one that others made.
            names = [file.name for file in storage.list_files(folder)]
            storage.remove_files(folder, [name for name in names if name != _CLAIM])
            storage.remove(folder)


def _prune(path: str, first: Sequence[str | None], keep: int) -> None:
    """Remove all finished versions but `keep`: those of `first`, and then the newest."""
    finished = runs(path)
    order = [run for run in first if run in finished]
    order += [run for run in reversed(finished) if run not in order]
    for run in order[keep:]:
        folder = storage.join(path, run)
        manifest = storage.read_json(storage.join(folder, MANIFEST))
        storage.remove_files(folder, [*_listed(manifest, folder), MANIFEST])
        storage.remove_empty_folders(folder)

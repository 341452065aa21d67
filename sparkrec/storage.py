"""One way to name and touch a path, local or `s3://`, and to publish a finished output.

An output is *published* when every file is in place and a manifest (`_sparkrec.json`: files,
sizes, what made it) stands beside them. It is written to a staging folder next to its final name;
on a local disk one rename puts it there, on S3 the objects are copied and the manifest is written
last. Readers require the manifest, and it marks an output as ours: a path that holds anything
else is never overwritten unless the conf says `overwrite: true`. What a killed job leaves behind
is cleaned up by the next one that writes the same output.

S3 goes through boto3 and pyarrow.fs. Credentials, region and endpoint come from the environment
(`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...), never from a conf.
"""

import functools
import glob
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs

from sparkrec import __version__
from sparkrec.errors import StorageError

MANIFEST = "_sparkrec.json"
_CLAIM = "_sparkrec.claim.json"


@dataclass(frozen=True)
class File:
    """A file below a folder: its path relative to the folder, and its size in bytes."""

    name: str
    size: int


def is_s3(path: str) -> bool:
    """Whether the path names an object store."""
    return path.startswith(("s3://", "s3a://"))


def join(path: str, *parts: str) -> str:
    """Join path parts with one slash."""
    return "/".join([path.rstrip("/") or "/", *(part.strip("/") for part in parts)])


def spark_path(path: str) -> str:
    """The path as Spark wants it: `s3a://` for S3, `file://` and the absolute path for the disk."""
    if is_s3(path):
        return "s3a://" + path.split("://", 1)[1]
    return f"file://{Path(_local(path)).absolute()}"


def arrow_filesystem(path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The pyarrow file system of a path, and the path inside it."""
    if not is_s3(path):
        return pyarrow.fs.LocalFileSystem(), str(Path(_local(path)).absolute())
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options = {"endpoint_override": host, "scheme": scheme or "https"}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    return pyarrow.fs.S3FileSystem(**options), path.split("://", 1)[1]


def _local(path: str) -> str:
    return path.removeprefix("file://") if path.startswith("file://") else path


@functools.lru_cache(maxsize=1)
def _s3_client(process: int) -> Any:
    import boto3

    return boto3.client("s3")


def _s3(path: str) -> tuple[Any, str, str]:
    bucket, _, key = path.split("://", 1)[1].partition("/")
    if not bucket:
        raise StorageError(f"{path} names no bucket; an S3 path reads s3://bucket/prefix")
    return _s3_client(os.getpid()), bucket, key.strip("/")


@contextmanager
def _s3_errors(path: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise StorageError(f"{path}: {' '.join(str(error).split())}") from error


def list_files(path: str) -> list[File]:
    """Every file below a folder (the file itself is named ''), sorted; none if nothing is there."""
    if is_s3(path):
        _, _, key = _s3(path)
        files = [
            File(name[len(key) :].lstrip("/"), size)
            for name, size in _s3_objects(path).items()
            if not name.endswith("/")
        ]
        return sorted(files, key=lambda f: f.name)
    root = Path(_local(path))
    if root.is_file():
        return [File("", root.stat().st_size)]
    found = (p for p in root.rglob("*") if p.is_file())
    return sorted(
        (File(p.relative_to(root).as_posix(), p.stat().st_size) for p in found),
        key=lambda f: f.name,
    )


def _s3_objects(path: str) -> dict[str, int]:
    """Key and size of every object at or below an S3 path, markers of empty folders too."""
    client, bucket, key = _s3(path)
    with _s3_errors(path):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        found = {e["Key"]: e["Size"] for page in pages for e in page.get("Contents", [])}
    return {
        name: size
        for name, size in found.items()
        if not key or name == key or name.startswith(f"{key}/")
    }


def _s3_delete(path: str, names: Sequence[str]) -> None:
    client, bucket, _ = _s3(path)
    for start in range(0, len(names), 1000):
        batch = [{"Key": name} for name in names[start : start + 1000]]
        with _s3_errors(path):
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        for failed in answer.get("Errors", []):
            raise StorageError(f"cannot remove s3://{bucket}/{failed['Key']}: {failed['Message']}")


def exists(path: str) -> bool:
    """Whether a file, or a folder with at least one file, is there."""
    if is_s3(path):
        return bool(list_files(path))
    root = Path(_local(path))
    return root.is_file() or (root.is_dir() and any(root.iterdir()))


def read_bytes(path: str) -> bytes:
    """The content of one file. Raises StorageError where it cannot be read."""
    if is_s3(path):
        client, bucket, key = _s3(path)
        with _s3_errors(path):
            return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    try:
        return Path(_local(path)).read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None


def write_bytes(path: str, content: bytes) -> None:
    """Write one file as a whole; a reader sees the old content or the new, never a part."""
    if is_s3(path):
        client, bucket, key = _s3(path)
        with _s3_errors(path):
            client.put_object(Bucket=bucket, Key=key, Body=content)
        return
    target = Path(_local(path))
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(content)
        scratch.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def read_json(path: str) -> dict[str, Any]:
    """A JSON object from one file."""
    try:
        value = json.loads(read_bytes(path))
    except ValueError as error:
        raise StorageError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise StorageError(f"{path} does not hold a JSON object")
    return value


def write_json(path: str, value: Mapping[str, Any]) -> None:
    """Write a JSON object, indented, as a whole."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=False) + "\n").encode())


def remove(path: str) -> None:
    """Remove a file or a folder with all it holds; nothing there is no error."""
    if is_s3(path):
        _s3_delete(path, list(_s3_objects(path)))
        return
    target = Path(_local(path))
    try:
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror or error}") from None


def download(path: str, folder: Path) -> Path:
    """Bring a file or a folder to a local folder; a local path is returned as it is."""
    if not is_s3(path):
        return Path(_local(path))
    client, bucket, key = _s3(path)
    with _s3_errors(path):
        for file in list_files(path):
            target = folder / file.name if file.name else folder / key.rsplit("/", 1)[-1]
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, f"{key}/{file.name}".strip("/"), str(target))
            if not file.name:
                return target
    return folder


def upload(folder: Path, path: str) -> None:
    """Copy every file of a local folder below a path."""
    for file in list_files(str(folder)):
        if is_s3(path):
            client, bucket, key = _s3(path)
            with _s3_errors(path):
                name = f"{key}/{file.name}".strip("/")
                client.upload_file(str(folder / file.name), bucket, name)
        else:
            target = Path(_local(path)) / file.name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / file.name, target)
            except OSError as error:
                raise StorageError(f"cannot write {target}: {error.strerror or error}") from None


# ------------------------------------------------------------------------------- publishing


def read_manifest(path: str) -> dict[str, Any]:
    """The manifest of a published output.

    Raises
    ------
    StorageError
        Nothing is there, or what is there was never finished.
    """
    name = join(path, MANIFEST)
    if is_published(path):
        return read_json(name)
    if not exists(path):
        raise StorageError(f"no such path: {path}")
    raise StorageError(
        f"{path} is not a finished sparkrec output (it has no {MANIFEST}); "
        "run the job that makes it again"
    )


def is_published(path: str) -> bool:
    """Whether a finished output stands at the path."""
    return exists(join(path, MANIFEST))


def check_output(path: str, made_by: str, overwrite: bool = False) -> None:
    """Raise StorageError if writing to `path` would destroy what `made_by` did not make."""
    if overwrite or not exists(path):
        return
    for mark in (_CLAIM, MANIFEST):
        if exists(join(path, mark)):
            maker = str(read_json(join(path, mark)).get("made_by", ""))
            if maker == made_by:
                return
            raise StorageError(
                f"output path {path} was made by `{maker}`, not by `{made_by}`; choose another "
                "output_path, or set overwrite: true to replace it"
            )
    names = [file.name or path for file in list_files(path)[:3]]
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

    Yields a staging path to write to. When the block ends well, the manifest is added and the
    output appears under `path`; when it raises, nothing does.

    Parameters
    ----------
    made_by
        What makes the output; another run of the same maker may replace it.
    about
        Further keys of the manifest (rows, content hash, ...); may be filled inside the block.
    """
    _sweep(path)
    check_output(path, made_by, overwrite)
    staging = _sibling(path, "staging")
    _make_parent(path)
    try:
        yield staging
        files = [vars(file) for file in list_files(staging)]
        if not files:
            raise StorageError(f"nothing was written for {path}")
        manifest = {"made_by": made_by, "sparkrec": __version__, **(about or {}), "files": files}
        if is_s3(path):
            _move_s3(staging, path, manifest)
        else:
            write_json(join(staging, MANIFEST), manifest)
            _swap_local(staging, path)
    finally:
        remove(staging)


def _sibling(path: str, kind: str, unique: str | None = None) -> str:
    parent, _, name = path.rstrip("/").rpartition("/")
    label = f".{name}.{kind}-{uuid.uuid4().hex if unique is None else unique}"
    return join(parent, label) if parent or path.startswith("/") else label


def _sweep(path: str) -> None:
    """Clean up after a killed writer of the same output."""
    if is_s3(path):
        client, bucket, prefix = _s3(_sibling(path, "staging", ""))
        with _s3_errors(path):
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        _s3_delete(path, names)
        return
    target = Path(_local(path))
    if not target.parent.is_dir():
        return
    name = glob.escape(target.name)
    for old in target.parent.glob(f".{name}.replaced-*"):
        # Killed between the two renames of a swap: the old output is still the good one.
        if target.exists():
            remove(str(old))
        else:
            old.rename(target)
    for left in target.parent.glob(f".{name}.staging-*"):
        remove(str(left))


def _make_parent(path: str) -> None:
    """Find out before any work that the output's folder cannot be made."""
    if is_s3(path):
        return
    try:
        Path(_local(path)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def _swap_local(staging: str, path: str) -> None:
    target, new = Path(_local(path)), Path(_local(staging))
    if target.exists():
        old = Path(_local(_sibling(path, "replaced")))
        target.rename(old)
        new.rename(target)
        remove(str(old))
    else:
        new.rename(target)


def _move_s3(staging: str, path: str, manifest: Mapping[str, Any]) -> None:
    """Copy under the final name; the claim says whose it is until the manifest stands there."""
    _take(path, str(manifest["made_by"]))
    client, bucket, source = _s3(staging)
    _, _, target = _s3(path)
    for file in list_files(staging):
        origin = {"Bucket": bucket, "Key": f"{source}/{file.name}"}
        with _s3_errors(path):
            client.copy(origin, bucket, f"{target}/{file.name}")
    write_json(join(path, MANIFEST), manifest)
    remove(join(path, _CLAIM))


def _take(path: str, made_by: str, keep: bool = False) -> None:
    """Empty an output of ours (with `keep`, only unfinish it) so that at no moment it is nobody's.

    A run that is killed in between leaves a claim, by which the next knows the rest as its own.
    """
    if not is_s3(path) and Path(_local(path)).is_file():
        remove(path)
    write_json(join(path, _CLAIM), {"made_by": made_by, "sparkrec": __version__})
    remove(join(path, MANIFEST))
    if keep:
        return
    if is_s3(path):
        _, _, key = _s3(path)
        _s3_delete(path, [name for name in _s3_objects(path) if name != f"{key}/{_CLAIM}"])
        return
    for child in Path(_local(path)).iterdir():
        if child.name != _CLAIM:
            remove(str(child))


def claim(path: str, made_by: str, overwrite: bool = False, keep: bool = False) -> None:
    """Begin a run folder, whose parts are published one by one and which ends with `finish`.

    An earlier run of the same maker is removed, unless `keep` (to resume it). Until `finish`, the
    folder as a whole has no manifest.
    """
    check_output(path, made_by, overwrite)
    _take(path, made_by, keep)


def finish(path: str, made_by: str, about: Mapping[str, Any]) -> None:
    """End a run folder: write its manifest, and take the claim away."""
    files = [vars(file) for file in list_files(path) if file.name != _CLAIM]
    manifest = {"made_by": made_by, "sparkrec": __version__, **about, "files": files}
    write_json(join(path, MANIFEST), manifest)
    remove(join(path, _CLAIM))


def copy_folder(source: str, target: str) -> int:
    """Copy every file of a local folder below a path; returns how many.

    ``python -m sparkrec.storage SOURCE TARGET`` does it from a shell, for a local TARGET as for an
    `s3://` one; `aws s3 cp --recursive SOURCE TARGET` is the same for the latter.
    """
    files = list_files(source)
    if not files:
        raise StorageError(f"nothing to copy: {source} has no files")
    upload(Path(source), target)
    return len(files)


if __name__ == "__main__":
    import sys

    if len(sys.argv) != 3:
        sys.exit("usage: python -m sparkrec.storage SOURCE TARGET")
    try:
        print(f"{copy_folder(sys.argv[1], sys.argv[2])} files copied to {sys.argv[2]}")
    except StorageError as failure:
        sys.exit(f"error: {failure}")

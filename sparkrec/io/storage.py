"""Reads, writes and lists files, local or on `s3://`."""

import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs

from sparkrec.errors import StorageError
from sparkrec.io import s3


@dataclass(frozen=True)
class File:
    """A file below a folder: its path relative to the folder, and its size in bytes."""

    name: str
    size: int


def is_s3(path: str) -> bool:
    """Whether the path names an object store."""
    return path.startswith(("s3://", "s3a://"))


def join(path: str, *parts: str) -> str:
    """Join parts of a path with single slashes."""
    return "/".join([path.rstrip("/") or "/", *(part.strip("/") for part in parts)])


def local_path(path: str) -> Path:
    """A local path, given plainly or as `file://...`."""
    return Path(path.removeprefix("file://"))


def spark_path(path: str) -> str:
    """The path as Spark wants it: `s3a://` for S3, `file://` and the absolute path for the disk."""
    if is_s3(path):
        return "s3a://" + path.split("://", 1)[1]
    return f"file://{local_path(path).absolute()}"


def arrow_filesystem(path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The pyarrow file system of a path, and the path inside it."""
    if is_s3(path):
        return s3.arrow_filesystem(), path.split("://", 1)[1]
    return pyarrow.fs.LocalFileSystem(), str(local_path(path).absolute())


def list_files(path: str) -> list[File]:
    """All files below a folder, sorted. A path that is a file gives one entry, with the name ''."""
    if is_s3(path):
        _, _, key = s3.locate(path)
        files = [
            File(name[len(key) :].lstrip("/"), size)
            for name, size in s3.objects(path).items()
            if not name.endswith("/")
        ]
        return sorted(files, key=lambda f: f.name)
    root = local_path(path)
    if root.is_file():
        return [File("", root.stat().st_size)]
    found = (p for p in root.rglob("*") if p.is_file())
    return sorted(
        (File(p.relative_to(root).as_posix(), p.stat().st_size) for p in found),
        key=lambda f: f.name,
    )


def exists(path: str) -> bool:
    """Whether the path is a file, or a folder with at least one file."""
    if is_s3(path):
        return bool(list_files(path))
    root = local_path(path)
    return root.is_file() or (root.is_dir() and any(root.iterdir()))


def read_bytes(path: str) -> bytes:
    """Read one file. Raises StorageError if it cannot be read."""
    if is_s3(path):
        client, bucket, key = s3.locate(path)
        with s3.errors(path):
            return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    try:
        return local_path(path).read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None


def write_bytes(path: str, content: bytes) -> None:
    """Write one file atomically: a reader sees the old content or the new, never a part."""
    if is_s3(path):
        client, bucket, key = s3.locate(path)
        with s3.errors(path):
            client.put_object(Bucket=bucket, Key=key, Body=content)
        return
    target = local_path(path)
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(content)
        scratch.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def read_json(path: str) -> dict[str, Any]:
    """Read a JSON object from a file."""
    try:
        value = json.loads(read_bytes(path))
    except ValueError as error:
        raise StorageError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise StorageError(f"{path} does not hold a JSON object")
    return value


def write_json(path: str, value: Mapping[str, Any]) -> None:
    """Write a JSON object, indented, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=False) + "\n").encode())


def remove(path: str) -> None:
    """Remove a file, or a folder with its content. It is no error if the path does not exist."""
    if is_s3(path):
        s3.delete(path, list(s3.objects(path)))
        return
    target = local_path(path)
    try:
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror or error}") from None


def copy_folder(source: str, target: str) -> int:
    """Copy all files of a local folder to a path, local or on `s3://`; returns their number.

    ``python -m sparkrec.io.storage SOURCE TARGET`` does this from a shell. For an `s3://` TARGET,
    `aws s3 cp --recursive SOURCE TARGET` does the same.
    """
    files = list_files(source)
    if not files:
        raise StorageError(f"nothing to copy: {source} has no files")
    for file in files:
        _copy_file(local_path(source) / file.name, join(target, file.name))
    return len(files)


def _copy_file(source: Path, path: str) -> None:
    if is_s3(path):
        client, bucket, key = s3.locate(path)
        with s3.errors(path):
            client.upload_file(str(source), bucket, key)
        return
    target = local_path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from None


if __name__ == "__main__":
    import sys

    if len(sys.argv) != 3:
        sys.exit("usage: python -m sparkrec.io.storage SOURCE TARGET")
    try:
        print(f"{copy_folder(sys.argv[1], sys.argv[2])} files copied to {sys.argv[2]}")
    except StorageError as failure:
        sys.exit(f"error: {failure}")

"""Reads, writes and lists files, local or on `s3://`."""

import contextlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
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


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")


def _scheme(path: str) -> str:
    """The scheme of a path in lower case: `s3`, `file`, or "" for a plain local path.

    Raises
    ------
    StorageError
        The scheme is another one, or the path has a NUL character.
    """
    if "\0" in path:
        raise StorageError(f"the path {path[:200]!r} has a NUL character, which no path may have")
    found = _SCHEME.match(path)
    if found is None:
        return ""
    scheme = found[1].lower()
    if scheme in ("s3", "s3a"):
        if path[found.end(1) :].startswith("://"):
            return "s3"
        raise StorageError(f"{path}: write an S3 path as s3://bucket/prefix")
    if scheme == "file":
        host = path[found.end(1) + 1 :].removeprefix("//").partition("/")[0]
        if not path[found.end(1) + 1 :].startswith("//") or host in ("", "localhost"):
            return "file"
        raise StorageError(f"{path} names the host {host}; write a local path as file:///folder")
    raise StorageError(
        f"{path}: sparkrec has no storage `{found[1]}:`; give a local path, file:///... or "
        "s3://bucket/prefix"
    )


def is_s3(path: str) -> bool:
    """Whether the path names an object store (`s3://` or `s3a://`, in any case).

    Raises
    ------
    StorageError
        The path has a scheme that is neither S3's nor `file:`.
    """
    return _scheme(path) == "s3"


def join(path: str, *parts: str) -> str:
    """Join parts of a path with single slashes."""
    return "/".join([path.rstrip("/") or "/", *(part.strip("/") for part in parts)])


def local_path(path: str) -> Path:
    """A local path, given plainly or as `file:/...` or `file:///...`."""
    if _scheme(path) != "file":
        return Path(path)
    return Path("/" + path.partition(":")[2].removeprefix("//localhost").lstrip("/"))


def spark_path(path: str) -> str:
    """The path as Spark wants it: `s3a://` for S3, `file://` and the absolute path for the disk."""
    if is_s3(path):
        return "s3a://" + path.split("://", 1)[1]
    return f"file://{local_path(path).absolute()}"


def name_of(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rpartition("/")[2]


def parent(path: str) -> str | None:
    """The folder above a path, or None above a root or a plain name."""
    if is_s3(path):
        bucket, _, key = path.rstrip("/").partition("://")[2].partition("/")
        above = key.rpartition("/")[0]
        return f"s3://{bucket}/{above}".rstrip("/") if key else None
    local = local_path(path).absolute()
    return str(local.parent) if local.parent != local else None


def real_path(path: str) -> str:
    """One spelling of a path: absolute, links resolved; for S3 `s3://bucket/key`.

    Two paths name the same place if, and only if, their real paths are equal.
    """
    if is_s3(path):
        bucket, key = s3.split(path)
        return f"s3://{bucket}/{key}"
    return str(local_path(path).resolve())


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
    files = []
    for folder, _, names in _walk(root):
        for name in names:
            file = folder / name
            try:
                found = file.stat()
            except FileNotFoundError:
                continue  # a link to nothing, or removed since the folder was listed
            except OSError as error:
                raise StorageError(f"cannot read {file}: {error.strerror or error}") from None
            if stat.S_ISREG(found.st_mode):
                files.append(File(file.relative_to(root).as_posix(), found.st_size))
    return sorted(files, key=lambda f: f.name)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder at and below a local path, with the names of its folders and of its files.

    A folder that another process removes meanwhile is left out. Links are not followed.
    """

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            reason = error.strerror or error
            raise StorageError(f"cannot list {error.filename}: {reason}") from None

    for folder, folders, names in os.walk(root, onerror=failed):
        yield Path(folder), folders, names


def exists(path: str) -> bool:
    """Whether the path is a file, or a folder with at least one file."""
    if is_s3(path):
        return s3.any_object(path)
    root = local_path(path)
    return root.is_file() or any(folders or names for _, folders, names in _walk(root))


def is_file(path: str) -> bool:
    """Whether the path is a file, or an object."""
    if is_s3(path):
        return s3.get_size(path) is not None
    return local_path(path).is_file()


def read_if_there(path: str) -> bytes | None:
    """Read a small file, or return None if there is no such file. One request on S3."""
    if is_s3(path):
        stored = s3.get_stored(path)
        return None if stored is None else stored.content
    try:
        return local_path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None


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
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")  # 32 hexadecimal digits
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(content)
        scratch.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def remove_unfinished_files(folder: str, name: str) -> None:
    """Remove what `write_bytes` of a killed process left of a file in a folder."""
    if is_s3(folder):
        return
    for left in local_path(folder).glob(f".{name}.*"):
        if re.fullmatch(r"[0-9a-f]{32}", left.name.rpartition(".")[2]):
            left.unlink(missing_ok=True)


def read_json(path: str) -> dict[str, Any]:
    """Read a JSON object from a file."""
    return _json_object(path, read_bytes(path))


def read_json_if_there(path: str) -> dict[str, Any] | None:
    """Read a JSON object from a file, or return None if there is no such file."""
    content = read_if_there(path)
    return None if content is None else _json_object(path, content)


def _json_object(path: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
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


def folders(path: str) -> list[str]:
    """Names of the folders in a folder, sorted."""
    if is_s3(path):
        return s3.folders(path)
    root = local_path(path)
    try:
        return sorted(p.name for p in root.iterdir() if p.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(f"cannot list {path}: {error.strerror or error}") from None


def remove_files(folder: str, names: Sequence[str]) -> None:
    """Remove files below a folder, in their order; it is no error if one does not exist."""
    if is_s3(folder):
        _, key = s3.split(folder)
        s3.delete(folder, [f"{key}/{name}" for name in names])
        return
    for name in names:
        remove(join(folder, name))


def remove_empty_folders(path: str) -> None:
    """Remove the empty folders at and below a path; on S3 these are their markers, if any."""
    if is_s3(path):
        found = list(s3.objects(path))
        s3.delete(path, [m for m in found if m.endswith("/") and _is_empty(m, found)])
        return
    root = local_path(path)
    for folder in sorted((folder for folder, _, _ in _walk(root)), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _is_empty(marker: str, names: Sequence[str]) -> bool:
    """Whether no file has a name below that of a marker."""
    return not any(name.startswith(marker) and not name.endswith("/") for name in names)


def copy_folder(source: str, target: str) -> int:
    """Copy all files of a folder to another, local or on `s3://` each; returns their number.

    ``python -m sparkrec.io.storage SOURCE TARGET`` does this from a shell. For an `s3://` TARGET,
    `aws s3 cp --recursive SOURCE TARGET` does the same.
    """
    files = list_files(source)
    if not files:
        raise StorageError(f"nothing to copy: {source} has no files")
    for file in files:
        origin = join(source, file.name) if file.name else source
        copy_file(origin, join(target, file.name or name_of(source)))
    return len(files)


def copy_file(source: str, path: str) -> None:
    """Copy one file; raises StorageError if it cannot be read or written."""
    if is_s3(source):
        client, bucket, key = s3.locate(source)
        with s3.errors(source):
            if is_s3(path):
                _, target_bucket, target_key = s3.locate(path)
                client.copy({"Bucket": bucket, "Key": key}, target_bucket, target_key)
            else:
                local_path(path).parent.mkdir(parents=True, exist_ok=True)
                client.download_file(bucket, key, str(local_path(path)))
        return
    if is_s3(path):
        client, bucket, key = s3.locate(path)
        with s3.errors(path):
            client.upload_file(str(local_path(source)), bucket, key)
        return
    target = local_path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(local_path(source), target)
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

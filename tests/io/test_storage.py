"""Naming, reading, writing and removing, on the disk and on S3 alike."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sparkrec.errors import StorageError
from sparkrec.io import storage
from sparkrec.io.s3 import locate
from sparkrec.io.storage import File

REPO = Path(__file__).parents[2]


def names(path: str) -> list[str]:
    return [file.name for file in storage.list_files(path)]


def test_write_read_list_remove(place: str) -> None:
    path = storage.join(place, "a", "b.bin")
    assert not storage.exists(place) and names(place) == []
    storage.write_bytes(path, b"one")
    storage.write_bytes(path, b"two!")
    storage.write_bytes(storage.join(place, "c"), b"")
    assert storage.read_bytes(path) == b"two!"
    assert storage.list_files(place) == [File("a/b.bin", 4), File("c", 0)]
    assert storage.list_files(path) == [File("", 4)]
    assert storage.exists(path) and storage.exists(storage.join(place, "a"))
    storage.remove(path)
    storage.remove(path)
    assert not storage.exists(path) and names(place) == ["c"]
    storage.remove(place)
    assert not storage.exists(place)


def test_json(place: str) -> None:
    path = storage.join(place, "x.json")
    storage.write_json(path, {"b": [1], "a": "é"})
    assert storage.read_json(path) == {"b": [1], "a": "é"}
    storage.write_bytes(path, b"{")
    with pytest.raises(StorageError, match=r"x\.json is not valid JSON"):
        storage.read_json(path)
    storage.write_bytes(path, b"[1]")
    with pytest.raises(StorageError, match=r"x\.json does not hold a JSON object"):
        storage.read_json(path)


def test_missing_file(place: str) -> None:
    with pytest.raises(StorageError, match="none"):
        storage.read_bytes(storage.join(place, "none"))


def test_neighbours_are_not_mixed_up(place: str) -> None:
    for name in ("b/x", "bc/x", "b.json", "b c/x"):
        storage.write_bytes(storage.join(place, "a", name), name.encode())
    assert names(storage.join(place, "a/b")) == ["x"]
    storage.remove(storage.join(place, "a/b"))
    assert not storage.exists(storage.join(place, "a/b"))
    assert names(place) == ["a/b c/x", "a/b.json", "a/bc/x"]


def test_spaces_and_other_alphabets(place: str) -> None:
    folder = storage.join(place, "my data", "été [1] 数据 100%")
    storage.write_bytes(storage.join(folder, "a b+c&d#e.txt"), b"x")
    assert names(place) == ["my data/été [1] 数据 100%/a b+c&d#e.txt"]
    assert storage.read_bytes(storage.join(folder, "a b+c&d#e.txt")) == b"x"


def test_copy_folder(place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub folder").mkdir(parents=True)
    (source / "a").write_bytes(b"1")
    (source / "sub folder" / "b").write_bytes(b"22")
    target = storage.join(place, "copy")
    assert storage.copy_folder(str(source), target) == 2
    assert storage.list_files(target) == [File("a", 1), File("sub folder/b", 2)]
    assert storage.read_bytes(storage.join(target, "sub folder", "b")) == b"22"
    with pytest.raises(StorageError, match="nothing to copy"):
        storage.copy_folder(str(tmp_path / "none"), target)


def test_copy_command(place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"1")
    command = [sys.executable, "-m", "sparkrec.io.storage"]
    target = storage.join(place, "copy")
    done = subprocess.run([*command, str(source), target], capture_output=True, text=True, cwd=REPO)
    assert (done.returncode, done.stdout) == (0, f"1 files copied to {target}\n")
    assert names(target) == ["a"]
    if not storage.is_s3(place):
        done = subprocess.run([*command, "none", target], capture_output=True, text=True, cwd=REPO)
        assert (done.returncode, done.stderr) == (1, "error: nothing to copy: none has no files\n")


def test_s3_names() -> None:
    assert storage.join("s3://b/", "x/", "/y") == "s3://b/x/y"
    assert storage.join("/a", "b") == "/a/b"
    assert storage.spark_path("s3://b/x y") == "s3a://b/x y"
    assert storage.spark_path("/a b/é") == "file:///a b/é"
    assert storage.spark_path("rel") == f"file://{Path.cwd()}/rel"
    assert storage.is_s3("s3a://b") and not storage.is_s3("/s3://b")
    with pytest.raises(StorageError, match="names no bucket"):
        storage.exists("s3:///x")


@pytest.mark.slow
def test_s3_errors_are_ours(s3: str) -> None:
    with pytest.raises(
        StorageError, match=r"s3://no-such-bucket/x: there is no bucket `no-such-bucket`"
    ):
        storage.exists("s3://no-such-bucket/x")


@pytest.mark.slow
def test_s3_markers_of_empty_folders(s3: str) -> None:
    client, bucket, key = locate(s3)
    client.put_object(Bucket=bucket, Key=f"{key}/a/", Body=b"")
    assert names(s3) == [] and not storage.exists(s3)
    storage.remove(f"{s3}/a")
    assert "Contents" not in client.list_objects_v2(Bucket=bucket, Prefix=key)


@pytest.mark.slow
def test_s3_more_than_a_page(s3: str) -> None:
    client, bucket, key = locate(s3)
    for i in range(1001):
        client.put_object(Bucket=bucket, Key=f"{key}/{i}", Body=b"")
    assert len(storage.list_files(s3)) == 1001
    storage.remove(s3)
    assert not storage.exists(s3)


def test_arrow_filesystem(place: str) -> None:
    storage.write_bytes(storage.join(place, "a b", "x"), b"123")
    filesystem, path = storage.arrow_filesystem(storage.join(place, "a b", "x"))
    with filesystem.open_input_stream(path) as stream:
        assert stream.read() == b"123"


def test_write_bytes_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    storage.write_bytes(str(path), b"old")

    def fail(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", fail)
        with pytest.raises(StorageError, match=r"cannot write .*: No space left on device"):
            storage.write_bytes(str(path), b"new")
    assert path.read_bytes() == b"old"
    reader = path.open("rb")
    storage.write_bytes(str(path), b"new")
    assert reader.read() == b"old" and path.read_bytes() == b"new"
    reader.close()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_local_mistakes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot write .*file/x"):
        storage.write_bytes(str(tmp_path / "file" / "x"), b"")


def test_folders_that_another_process_removes(tmp_path: Path) -> None:
    """What is listed or read may be gone a moment later: then it is not there, and no error."""
    changed, ended = tmp_path / "a" / "b" / "c", threading.Event()

    def change() -> None:
        while not ended.is_set():
            for number in range(20):
                storage.write_bytes(str(changed / f"{number}.json"), b"{}")
            shutil.rmtree(tmp_path / "a")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        end, seen = time.monotonic() + 2, set()
        while time.monotonic() < end:
            seen.add(len(storage.list_files(str(tmp_path))))
            seen.add(storage.read_json_if_there(str(changed / "0.json")) is not None)
            storage.exists(str(tmp_path / "a"))
            storage.folders(str(tmp_path / "a" / "b"))
    finally:
        ended.set()
        thread.join()
    assert len(seen) > 2


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(str(tmp_path / "a" / "b.txt"), b"x")

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match=r"cannot list .*: Permission denied"):
        storage.list_files(str(tmp_path))

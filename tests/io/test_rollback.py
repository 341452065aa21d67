"""Going back to an earlier version of an output."""

import sys
from pathlib import Path

import pytest

from sparkrec.errors import StorageError
from sparkrec.io import rollback as command
from sparkrec.io import storage
from sparkrec.io.outputs import POINTER, current_run, open_output, runs
from sparkrec.io.publishing import publish
from sparkrec.io.rollback import describe, rollback


def put(path: str, content: bytes) -> None:
    with publish(path, "job", keep=3) as folder:
        storage.write_bytes(f"{folder}/x", content)


def read(path: str) -> bytes:
    return storage.read_bytes(open_output(path).path("x"))


def test_back_and_forth(place: str) -> None:
    path = storage.join(place, "out")
    for content in (b"1", b"2", b"3"):
        put(path, content)
    first, second, third = runs(path)
    assert describe(path) == f"  {first}  job\n  {second}  job\n* {third}  job"
    assert rollback(path) == second
    assert read(path) == b"2"
    assert rollback(path) == first
    assert read(path) == b"1"
    with pytest.raises(StorageError, match=rf"has no run before {first}; its runs are {first}, "):
        rollback(path)
    assert rollback(path, third) == third
    assert read(path) == b"3"
    with pytest.raises(StorageError, match="has no finished run 2020"):
        rollback(path, "2020")


def test_the_version_that_was_gone_back_to_outlives_the_bad_one(place: str) -> None:
    path = storage.join(place, "out")
    for content in (b"good", b"bad"):
        put(path, content)
    good, bad = runs(path)
    rollback(path)
    with publish(path, "job", keep=2) as folder:
        storage.write_bytes(f"{folder}/x", b"new")
    assert runs(path) == [good, current_run(path)] and bad not in runs(path)
    assert rollback(path) == good


def test_a_damaged_pointer_is_mended(place: str) -> None:
    path = storage.join(place, "out")
    put(path, b"1")
    storage.write_bytes(storage.join(path, POINTER), b"?")
    assert describe(path).strip().startswith(runs(path)[0])
    rollback(path, runs(path)[0])
    assert read(path) == b"1"


def test_not_while_it_is_written_and_not_to_what_is_damaged(tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    put(path, b"1")
    put(path, b"2")
    with publish(path, "job") as folder:
        storage.write_bytes(f"{folder}/x", b"3")
        with pytest.raises(StorageError, match="is being written by"):
            rollback(path)
    storage.remove(storage.join(path, runs(path)[0], "x"))
    with pytest.raises(StorageError, match="x is missing"):
        rollback(path)
    assert read(path) == b"3"
    with pytest.raises(StorageError, match="has no finished run"):
        rollback(str(tmp_path / "nothing"))


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "out")
    put(path, b"1")
    put(path, b"2")
    first, second = runs(path)
    for arguments, said in (
        ([path], f"{path} is now run {first}\n"),
        ([path, "--list"], f"* {first}  job\n  {second}  job\n"),
        ([path, "--to", second], f"{path} is now run {second}\n"),
    ):
        monkeypatch.setattr(sys, "argv", ["rollback", *arguments])
        command.main()
        assert capsys.readouterr().out == said
    monkeypatch.setattr(sys, "argv", ["rollback", f"{path}/none"])
    with pytest.raises(SystemExit, match=r"^error: .*none has no finished run$"):
        command.main()

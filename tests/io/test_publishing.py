"""Outputs as versions with a pointer: whole or not at all, on the disk and on S3 alike."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparkrec import __version__
from sparkrec.errors import StorageError
from sparkrec.io import publishing, storage
from sparkrec.io.lease import LEASE
from sparkrec.io.output_paths import check_output
from sparkrec.io.outputs import (
    CHECKPOINTS,
    CLAIM,
    MANIFEST,
    POINTER,
    check_hashes,
    current_run,
    is_foreign,
    is_published,
    open_output,
    read_manifest,
    resolve,
    runs,
)
from sparkrec.io.publishing import part, publish
from sparkrec.io.s3 import locate


def names(path: str) -> list[str]:
    """Files below a path, the current run of `out` written as `<run>`."""
    run = current_run(storage.join(path, "out")) or "none"
    return [file.name.replace(run, "<run>") for file in storage.list_files(path)]


def put(path: str, made_by: str = "job", content: bytes = b"new", **options: Any) -> None:
    with publish(path, made_by, **options) as folder:
        storage.write_bytes(storage.join(folder, "part-0"), content)


def read(path: str) -> bytes:
    return storage.read_bytes(open_output(path).path("part-0"))


def test_publish(place: str) -> None:
    path = storage.join(place, "out")
    about: dict[str, Any] = {"rows": 3}
    with publish(path, "job", about=about) as folder:
        storage.write_bytes(storage.join(folder, "part-0"), b"1234")
        storage.write_bytes(storage.join(folder, "sub/part-1"), b"")
        storage.write_bytes(storage.join(folder, "work/x"), b"not of the output")
        about["later"] = "yes"
        assert not is_published(path)
        with pytest.raises(StorageError, match="is not a finished sparkrec output"):
            read_manifest(path)
    assert read_manifest(path) == {
        "made_by": "job",
        "sparkrec": __version__,
        "rows": 3,
        "later": "yes",
        "files": [{"name": "part-0", "size": 4}, {"name": "sub/part-1", "size": 0}],
    }
    assert names(place) == [
        f"out/<run>/{MANIFEST}",
        "out/<run>/part-0",
        "out/<run>/sub/part-1",
        "out/LATEST",
    ]
    pointer = storage.read_bytes(storage.join(path, POINTER)).decode()
    assert pointer == f"{current_run(path)}\n"


def test_spaces_and_other_alphabets(place: str) -> None:
    path = storage.join(place, "my data", "été [1] 数据 100%", "out put")
    put(path)
    put(path, content=b"again")
    assert read(path) == b"again"


@pytest.mark.slow
def test_s3_markers_of_empty_folders_are_no_files(s3: str) -> None:
    client, bucket, _ = locate(s3)
    with publish(f"{s3}/out", "job") as folder:
        client.put_object(Bucket=bucket, Key=folder.removeprefix("s3://test/") + "/", Body=b"")
        storage.write_bytes(f"{folder}/x", b"1")
    assert [file["name"] for file in read_manifest(f"{s3}/out")["files"]] == ["x"]


@pytest.mark.slow
def test_s3_markers_go_with_their_version(s3: str) -> None:
    """Spark leaves one in each folder that it writes to."""
    client, bucket, _ = locate(s3)
    for _ in range(4):
        with publish(f"{s3}/out", "job", keep=2) as folder:
            key = folder.removeprefix("s3://test/")
            for marker in (key, f"{key}/model"):
                client.put_object(Bucket=bucket, Key=f"{marker}/", Body=b"")
            storage.write_bytes(f"{folder}/model/x", b"1")
    assert storage.folders(f"{s3}/out") == runs(f"{s3}/out")
    assert len(runs(f"{s3}/out")) == 2
    assert all(read_manifest(f"{s3}/out/{run}") for run in runs(f"{s3}/out"))


def test_a_folder_that_cannot_be_made_is_found_out_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(StorageError, match=r"file/x"),
        publish(str(tmp_path / "file" / "x"), "job"),
    ):
        pytest.fail("the block ran")


def test_publish_nothing_on_failure(place: str) -> None:
    path = storage.join(place, "out")
    with pytest.raises(KeyError), publish(path, "job") as folder:
        storage.write_bytes(storage.join(folder, "x"), b"1")
        raise KeyError
    with pytest.raises(StorageError, match=r"nothing was written for .*out"), publish(path, "job"):
        pass
    assert names(place) == []


def test_a_failed_run_keeps_the_old_output(place: str) -> None:
    path = storage.join(place, "out")
    put(path, content=b"old")
    before = names(place)
    with pytest.raises(KeyError), publish(path, "job") as folder:
        storage.write_bytes(storage.join(folder, "part-0"), b"new")
        assert read(path) == b"old"
        raise KeyError
    assert read(path) == b"old"
    assert names(place) == before
    with publish(path, "job") as folder:
        storage.write_bytes(storage.join(folder, "part-0"), b"new")
        assert read(path) == b"old"
    assert read(path) == b"new"


# ------------------------------------------------------------------------------- versions


def test_versions_that_are_kept(place: str) -> None:
    path = storage.join(place, "out")
    for number in range(4):
        put(path, content=b"%d" % number)
    assert len(runs(path)) == 2
    assert current_run(path) == runs(path)[-1]
    assert storage.read_bytes(storage.join(path, runs(path)[0], "part-0")) == b"2"
    put(path, content=b"4", keep=1)
    assert runs(path) == [current_run(path)]
    assert names(place) == [f"out/<run>/{MANIFEST}", "out/<run>/part-0", "out/LATEST"]


def test_a_reader_keeps_its_version_while_the_next_is_published(place: str) -> None:
    path = storage.join(place, "out")
    put(path, content=b"old")
    pinned = resolve(path)
    put(path, content=b"new")
    assert storage.read_bytes(storage.join(pinned, "part-0")) == b"old"


def test_files_of_others_are_neither_removed_nor_read(place: str) -> None:
    path = storage.join(place, "out")
    put(path, content=b"1")
    storage.write_bytes(storage.join(resolve(path), "notes.txt"), b"precious")
    storage.write_bytes(storage.join(path, "more.txt"), b"precious, too")
    assert open_output(path).has_other_files
    first = resolve(path)
    for content in (b"2", b"3", b"4"):
        put(path, content=content)
    assert storage.read_bytes(storage.join(first, "notes.txt")) == b"precious"
    assert not storage.exists(storage.join(first, "part-0"))
    assert storage.read_bytes(storage.join(path, "more.txt")) == b"precious, too"


def test_a_writer_that_was_killed_while_it_claimed_a_version_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out"
    unfinished = path / "20200101-000000-000000-abcd" / f".{CLAIM}.{'0' * 32}"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(b"")
    put(str(path))
    assert sorted(p.name for p in path.iterdir()) == [*runs(str(path)), POINTER]


def test_an_old_version_that_cannot_be_removed_is_a_warning(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = storage.join(place, "out")
    for content in (b"1", b"2"):
        put(path, content=content)
    storage.write_bytes(storage.join(path, runs(path)[0], MANIFEST), b"{")
    put(path, content=b"3")
    assert read(path) == b"3"
    assert "is published, but old files of it could not be removed" in caplog.text


# ------------------------------------------------------------------------------- whose output


def test_refuses_what_is_not_ours(place: str) -> None:
    path = storage.join(place, "out")
    storage.write_bytes(storage.join(path, "thesis.txt"), b"precious")
    message = r"out exists and is not an output of sparkrec \(it holds thesis\.txt\).*overwrite"
    with pytest.raises(StorageError, match=message):
        put(path)
    with pytest.raises(StorageError, match=r"is not a finished sparkrec output"):
        read_manifest(path)
    assert is_foreign(path)
    assert names(place) == ["out/thesis.txt"]
    put(path, overwrite=True)
    assert storage.read_bytes(storage.join(path, "thesis.txt")) == b"precious"
    assert not is_foreign(path)


def test_refuses_a_file(place: str) -> None:
    path = storage.join(place, "out")
    storage.write_bytes(path, b"precious")
    with pytest.raises(StorageError, match=r"out"):
        put(path)
    assert storage.read_bytes(path) == b"precious"


def test_refuses_another_makers_output(place: str) -> None:
    path = storage.join(place, "out")
    put(path, "job a")
    with pytest.raises(StorageError, match=r"was made by `job a`, not by `job b`; .* overwrite: t"):
        put(path, "job b")
    put(path, "job b", overwrite=True)
    assert read_manifest(path)["made_by"] == "job b"
    assert [read_manifest(storage.join(path, run))["made_by"] for run in runs(path)] == [
        "job a",
        "job b",
    ]


def test_a_writer_that_begins_or_ends_during_the_check(place: str, monkeypatch: Any) -> None:
    path = storage.join(place, "out")
    claim = storage.join(path, "20261126-021217-569166-cc57", CLAIM)
    list_files, read_json = storage.list_files, storage.read_json

    def begin(at: str) -> Any:
        storage.write_json(claim, {"made_by": "job"})
        return list_files(at)

    def end(at: str) -> Any:
        if at == claim:
            storage.write_json(claim.replace(CLAIM, MANIFEST), {"made_by": "job", "files": []})
            storage.remove(claim)
        return read_json(at)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "list_files", begin)
        check_output(path, "job")
    assert names(place) == [f"out/20261126-021217-569166-cc57/{CLAIM}"]
    monkeypatch.setattr(storage, "read_json", end)
    with pytest.raises(StorageError, match="was made by `job`, not by `another`"):
        check_output(path, "another")
    check_output(path, "job")


BAD_PATHS = ["", " ", ".", "..", "/", "~HOME", "a/../b", "a\0b", "x" * 300, "a/" + "é" * 200]
BAD_PATHS += ["/sparkrec-new-folder-of-the-root", "/dev/null", "s3://bucket", "s3://", "S3://b/"]
BAD_PATHS += ["hdfs://x/y", "gs://x/y", "s3:/x/y", "file://host/x"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_that_no_output_can_have(path: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(StorageError) as caught:
            check_output(path.replace("~HOME", str(Path.home())), "job", overwrite)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    assert list(tmp_path.iterdir()) == []


def test_special_files_are_no_outputs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("fifo", "dangling"):
        with pytest.raises(StorageError, match=name):
            check_output(str(tmp_path / name), "job", overwrite=True)
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    put(str(tmp_path / "link"))
    assert read(str(tmp_path / "real")) == b"new"


# ------------------------------------------------------------------------------- parts


def put_parts(path: str, content: bytes, **options: Any) -> None:
    with publish(path, "job", parts=("train", "test"), **options) as folder:
        for name in ("train", "test"):
            with part(storage.join(folder, name), {"rows": 1}) as inside:
                storage.write_bytes(storage.join(inside, "part-0"), content)


def test_parts_change_together(place: str) -> None:
    path = storage.join(place, "out")
    put_parts(path, b"old")
    train, test = storage.join(path, "train"), storage.join(path, "test")
    assert (read(train), read(test)) == (b"old", b"old")
    assert read_manifest(train)["rows"] == 1
    with pytest.raises(KeyError), publish(path, "job", parts=("train", "test")) as folder:
        with part(storage.join(folder, "train")) as inside:
            storage.write_bytes(storage.join(inside, "part-0"), b"new")
        raise KeyError
    assert (read(train), read(test)) == (b"old", b"old")
    put_parts(path, b"new")
    assert (read(train), read(test)) == (b"new", b"new")
    assert resolve(storage.join(path, "nothing")) == storage.join(path, "nothing")


def test_parts_stand_beside_files_of_others(place: str) -> None:
    path = storage.join(place, "out")
    storage.write_bytes(storage.join(path, "raw", "events.csv"), b"raw")
    put_parts(path, b"1")
    put(storage.join(path, "below"), "other", b"2")
    put_parts(path, b"3", keep=1)
    assert storage.read_bytes(storage.join(path, "raw", "events.csv")) == b"raw"
    assert read(storage.join(path, "below")) == b"2"
    storage.write_bytes(storage.join(place, "taken", "train", "x"), b"x")
    with pytest.raises(StorageError, match=r"taken/train exists and is not an output"):
        put_parts(storage.join(place, "taken"), b"1")


def test_an_output_is_not_written_into_another(place: str) -> None:
    path = storage.join(place, "out")
    put_parts(path, b"1")
    for overwrite in (False, True):
        with pytest.raises(StorageError, match=r"is `train` of the output .*out"):
            put(storage.join(path, "train"), overwrite=overwrite)
        with pytest.raises(StorageError, match=r"is inside a run of another output"):
            put(storage.join(resolve(path), "mine"), overwrite=overwrite)


# ------------------------------------------------------------------------------- what is read


def shorten(path: str) -> None:
    storage.write_bytes(path, storage.read_bytes(path)[:-1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [(storage.remove, "part-0 is missing"), (shorten, "part-0 has 2 bytes, not 3")],
)
def test_a_file_that_is_missing_or_shortened(
    place: str, damage: Callable[[str], None], message: str
) -> None:
    path = storage.join(place, "out")
    put(path)
    damage(storage.join(resolve(path), "part-0"))
    with pytest.raises(StorageError, match=message):
        read_manifest(path)


def test_a_flipped_byte(place: str) -> None:
    path = storage.join(place, "out")
    put(path, hashes=True)
    check_hashes(open_output(path))
    storage.write_bytes(storage.join(resolve(path), "part-0"), b"nEw")
    with pytest.raises(StorageError, match="part-0 is damaged"):
        check_hashes(open_output(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "LATEST does not hold a run id, but ''"),
        ("../../etc", "LATEST does not hold a run id"),
        ("\xff", "LATEST does not hold a run id"),
        ("20200101-000000-000000-0000", "LATEST names the run 20200101-.*, which is not there"),
    ],
)
def test_a_damaged_pointer(place: str, text: str, message: str) -> None:
    path = storage.join(place, "out")
    put(path)
    storage.write_bytes(storage.join(path, POINTER), text.encode("latin-1"))
    with pytest.raises(StorageError, match=message):
        read_manifest(path)


def test_a_file_of_that_name_that_others_wrote(place: str) -> None:
    storage.write_bytes(storage.join(place, POINTER), b"v1.2")
    path = storage.join(place, "out")
    put(path)
    assert read(path) == b"new"
    assert resolve(storage.join(place, "raw")) == storage.join(place, "raw")
    with pytest.raises(StorageError, match=r"is not an output of sparkrec \(it holds LATEST, "):
        put(place)


def test_a_damaged_manifest(place: str) -> None:
    path = storage.join(place, "out")
    put(path)
    manifest = storage.join(resolve(path), MANIFEST)
    for text in ("{}", "[]", '{"files": [{"name": "x"}]}', "{", '{"files": 3}'):
        storage.write_bytes(manifest, text.encode())
        with pytest.raises(StorageError, match=MANIFEST):
            read_manifest(path)


# ------------------------------------------------------------------------------- killed writers


class Killed(BaseException):
    """Stands for SIGKILL: nothing is cleaned up."""


def killed_writer(path: str, files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> str:
    """Leave what a killed writer leaves; returns its folder."""
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(publishing, "_discard", lambda folder: None)
        with publish(path, "job") as folder:
            for name in files:
                storage.write_bytes(storage.join(folder, name), b"x")
            raise Killed
    return folder


def test_the_next_writer_removes_what_a_killed_one_left(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = storage.join(place, "out")
    put(path, content=b"old")
    left = killed_writer(path, ("part-0", "_temporary/x", "work/encoded/y"), monkeypatch)
    assert storage.exists(left)
    assert read(path) == b"old"
    put(path)
    assert not storage.exists(left)
    assert read(path) == b"new"


def test_the_empty_folder_of_a_version_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    put(str(path))
    killed = path / "20260101-000000-000000-0000"
    (killed / "sub").mkdir(parents=True)
    others = path / "20260101-000000-000000-0001"
    others.mkdir()
    (others / "notes").touch()
    put(str(path))
    assert not killed.exists() and (others / "notes").exists()


def test_half_a_pointer_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    put(str(path))
    half, others = path / f".LATEST.{'0a' * 16}", path / ".LATEST.mine"
    half.touch()
    others.touch()
    put(str(path))
    assert others.exists() and not half.exists()


def test_checkpoints_survive_until_they_are_resumed(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = storage.join(place, "out")
    put(path, content=b"old")
    left = killed_writer(path, ("model/half", f"{CHECKPOINTS}/a"), monkeypatch)
    with pytest.raises(KeyError), publish(path, "job") as folder:
        assert folder != left
        raise KeyError
    assert storage.exists(left)
    with publish(path, "job", resume=True) as folder:
        assert folder == left
        assert storage.read_bytes(storage.join(folder, CHECKPOINTS, "a")) == b"x"
        storage.write_bytes(storage.join(folder, "part-0"), b"resumed")
    assert read(path) == b"resumed"
    assert not storage.exists(storage.join(resolve(path), CHECKPOINTS))


def test_nothing_to_resume_is_said(place: str, caplog: pytest.LogCaptureFixture) -> None:
    put(storage.join(place, "out"), resume=True)
    assert "has no unfinished run to resume; a new one begins" in caplog.text


def test_checkpoints_survive_a_failure_and_go_with_the_next_run(place: str) -> None:
    path = storage.join(place, "out")
    with pytest.raises(KeyError), publish(path, "job") as left:
        storage.write_bytes(storage.join(left, CHECKPOINTS, "a"), b"x")
        storage.write_bytes(storage.join(left, "work/encoded"), b"x")
        storage.write_bytes(storage.join(left, "part-0"), b"x")
        raise KeyError
    assert storage.exists(storage.join(left, CHECKPOINTS, "a"))
    assert not storage.exists(storage.join(left, "work/encoded"))
    assert not storage.exists(storage.join(left, "part-0"))
    with pytest.raises(StorageError, match=r"made by `job`, not by `other`"):
        put(path, "other", resume=True)
    put(path)
    assert not storage.exists(left)


def test_killed_before_the_pointer_is_written(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = storage.join(place, "out")
    put(path, content=b"old")

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(publishing, "_point", kill)
        put(path)
    assert read(path) == b"old"
    put(path, content=b"newer")
    assert read(path) == b"newer"
    assert [storage.read_bytes(storage.join(path, run, "part-0")) for run in runs(path)] == [
        b"old",
        b"newer",
    ]


def test_one_writer_at_a_time(place: str) -> None:
    path = storage.join(place, "out")
    with publish(path, "job") as folder:
        storage.write_bytes(storage.join(folder, "part-0"), b"first")
        with pytest.raises(StorageError, match=rf"is being written by process {os.getpid()} on "):
            put(path)
        assert storage.exists(storage.join(path, LEASE))
    assert read(path) == b"first"
    assert not storage.exists(storage.join(path, LEASE))

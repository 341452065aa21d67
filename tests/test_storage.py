"""Paths on the disk and on S3, and outputs that appear as a whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparkrec import __version__, storage
from sparkrec.errors import StorageError
from sparkrec.storage import File, publish

REPO = Path(__file__).parents[1]


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place to write to, on either kind of storage."""
    return str(request.getfixturevalue("s3")) if request.param == "s3" else str(tmp_path / "root")


def names(path: str) -> list[str]:
    return [file.name for file in storage.list_files(path)]


def put(path: str, made_by: str = "job", content: bytes = b"new", **options: Any) -> None:
    with publish(path, made_by, **options) as staging:
        storage.write_bytes(storage.join(staging, "part-0"), content)


# ------------------------------------------------------------------------------- plain files


def test_write_read_list_remove(root: str) -> None:
    path = storage.join(root, "a", "b.bin")
    assert not storage.exists(root) and names(root) == []
    storage.write_bytes(path, b"one")
    storage.write_bytes(path, b"two!")
    storage.write_bytes(storage.join(root, "c"), b"")
    assert storage.read_bytes(path) == b"two!"
    assert storage.list_files(root) == [File("a/b.bin", 4), File("c", 0)]
    assert storage.list_files(path) == [File("", 4)]
    assert storage.exists(path) and storage.exists(storage.join(root, "a"))
    storage.remove(path)
    storage.remove(path)
    assert not storage.exists(path) and names(root) == ["c"]
    storage.remove(root)
    assert not storage.exists(root)


def test_json(root: str) -> None:
    path = storage.join(root, "x.json")
    storage.write_json(path, {"b": [1], "a": "é"})
    assert storage.read_json(path) == {"b": [1], "a": "é"}
    storage.write_bytes(path, b"{")
    with pytest.raises(StorageError, match=r"x\.json is not valid JSON"):
        storage.read_json(path)
    storage.write_bytes(path, b"[1]")
    with pytest.raises(StorageError, match=r"x\.json does not hold a JSON object"):
        storage.read_json(path)


def test_missing_file(root: str) -> None:
    with pytest.raises(StorageError, match="none"):
        storage.read_bytes(storage.join(root, "none"))


def test_neighbours_are_not_mixed_up(root: str) -> None:
    for name in ("b/x", "bc/x", "b.json", "b c/x"):
        storage.write_bytes(storage.join(root, "a", name), name.encode())
    assert names(storage.join(root, "a/b")) == ["x"]
    storage.remove(storage.join(root, "a/b"))
    assert not storage.exists(storage.join(root, "a/b"))
    assert names(root) == ["a/b c/x", "a/b.json", "a/bc/x"]


def test_spaces_and_other_alphabets(root: str) -> None:
    folder = storage.join(root, "my data", "été [1] 数据 100%")
    storage.write_bytes(storage.join(folder, "a b+c&d#e.txt"), b"x")
    assert names(root) == ["my data/été [1] 数据 100%/a b+c&d#e.txt"]
    assert storage.read_bytes(storage.join(folder, "a b+c&d#e.txt")) == b"x"
    put(storage.join(folder, "out put"))
    put(storage.join(folder, "out put"), content=b"again")
    assert storage.read_bytes(storage.join(folder, "out put", "part-0")) == b"again"
    assert names(folder) == ["a b+c&d#e.txt", "out put/_sparkrec.json", "out put/part-0"]


def test_upload_and_download(root: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub folder").mkdir(parents=True)
    (source / "a").write_bytes(b"1")
    (source / "sub folder" / "b").write_bytes(b"22")
    target = storage.join(root, "copy")
    assert storage.copy_folder(str(source), target) == 2
    assert storage.list_files(target) == [File("a", 1), File("sub folder/b", 2)]
    here = storage.download(target, tmp_path / "here")
    assert (here / "sub folder" / "b").read_bytes() == b"22"
    one = storage.download(storage.join(target, "a"), tmp_path / "here one")
    assert one.read_bytes() == b"1"
    with pytest.raises(StorageError, match="nothing to copy"):
        storage.copy_folder(str(tmp_path / "none"), target)


def test_copy_command(root: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"1")
    command = [sys.executable, "-m", "sparkrec.storage"]
    target = storage.join(root, "copy")
    done = subprocess.run([*command, str(source), target], capture_output=True, text=True, cwd=REPO)
    assert (done.returncode, done.stdout) == (0, f"1 files copied to {target}\n")
    assert names(target) == ["a"]
    if not storage.is_s3(root):
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


def test_s3_errors_are_ours(s3: str) -> None:
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/x: .*NoSuchBucket"):
        storage.exists("s3://no-such-bucket/x")


def test_s3_markers_of_empty_folders(s3: str) -> None:
    client, bucket, key = storage._s3(s3)
    client.put_object(Bucket=bucket, Key=f"{key}/a/", Body=b"")
    assert names(s3) == [] and not storage.exists(s3)
    with publish(f"{s3}/out", "job") as staging:
        client.put_object(Bucket=bucket, Key=staging.removeprefix("s3://test/") + "/", Body=b"")
        storage.write_bytes(f"{staging}/x", b"1")
    storage.remove(f"{s3}/a")
    found = client.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]
    assert [entry["Key"].removeprefix(key) for entry in found] == ["/out/_sparkrec.json", "/out/x"]


def test_s3_more_than_a_page(s3: str) -> None:
    client, bucket, key = storage._s3(s3)
    for i in range(1001):
        client.put_object(Bucket=bucket, Key=f"{key}/{i}", Body=b"")
    assert len(storage.list_files(s3)) == 1001
    storage.remove(s3)
    assert not storage.exists(s3)


def test_arrow_filesystem(root: str) -> None:
    storage.write_bytes(storage.join(root, "a b", "x"), b"123")
    filesystem, path = storage.arrow_filesystem(storage.join(root, "a b", "x"))
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
    with (
        pytest.raises(StorageError, match=r"cannot write .*file/x"),
        publish(str(tmp_path / "file" / "x"), "job"),
    ):
        pytest.fail("found out before any work")


# ------------------------------------------------------------------------------- publishing


def test_publish(root: str) -> None:
    path = storage.join(root, "out")
    about: dict[str, Any] = {"rows": 3}
    with publish(path, "job", about=about) as staging:
        storage.write_bytes(storage.join(staging, "part-0"), b"1234")
        storage.write_bytes(storage.join(staging, "sub/part-1"), b"")
        about["later"] = "yes"
        assert not storage.exists(path)
        with pytest.raises(StorageError, match="no such path"):
            storage.read_manifest(path)
    assert storage.read_manifest(path) == {
        "made_by": "job",
        "sparkrec": __version__,
        "rows": 3,
        "later": "yes",
        "files": [{"name": "part-0", "size": 4}, {"name": "sub/part-1", "size": 0}],
    }
    assert names(root) == ["out/_sparkrec.json", "out/part-0", "out/sub/part-1"]


def test_publish_nothing_on_failure(root: str) -> None:
    path = storage.join(root, "out")
    with pytest.raises(KeyError), publish(path, "job") as staging:
        storage.write_bytes(storage.join(staging, "x"), b"1")
        raise KeyError
    with pytest.raises(StorageError, match=r"nothing was written for .*out"), publish(path, "job"):
        pass
    assert names(root) == []


def test_a_failed_run_keeps_the_old_output(root: str) -> None:
    path = storage.join(root, "out")
    put(path, content=b"old")
    with pytest.raises(KeyError), publish(path, "job") as staging:
        storage.write_bytes(storage.join(staging, "part-1"), b"new")
        assert storage.read_bytes(storage.join(path, "part-0")) == b"old"
        assert storage.is_published(path)
        raise KeyError
    assert storage.read_bytes(storage.join(path, "part-0")) == b"old"
    with publish(path, "job") as staging:
        storage.write_bytes(storage.join(staging, "part-1"), b"new")
        assert storage.read_bytes(storage.join(path, "part-0")) == b"old"
    assert names(root) == ["out/_sparkrec.json", "out/part-1"]


def test_refuses_what_is_not_ours(root: str) -> None:
    path = storage.join(root, "out")
    storage.write_bytes(storage.join(path, "thesis.txt"), b"precious")
    message = r"out exists and is not an output of sparkrec \(it holds thesis\.txt\).*overwrite"
    with pytest.raises(StorageError, match=message):
        put(path)
    with pytest.raises(StorageError, match=message):
        storage.claim(path, "job")
    with pytest.raises(StorageError, match=r"is not a finished sparkrec output"):
        storage.read_manifest(path)
    assert names(root) == ["out/thesis.txt"]
    put(path, overwrite=True)
    assert names(root) == ["out/_sparkrec.json", "out/part-0"]


def test_refuses_a_file_that_is_not_ours(root: str) -> None:
    path = storage.join(root, "out")
    storage.write_bytes(path, b"precious")
    for write in (put, storage.claim):
        with pytest.raises(StorageError, match=r"out exists and is not an output of sparkrec"):
            write(path, "job")
    assert storage.read_bytes(path) == b"precious"


def test_overwrites_a_local_file_when_told(tmp_path: Path) -> None:
    for write in (put, storage.claim):
        path = tmp_path / "out"
        storage.remove(str(path))
        path.write_bytes(b"x")
        write(str(path), "job", overwrite=True)
        assert path.is_dir()
        assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_refuses_another_jobs_output(root: str) -> None:
    path = storage.join(root, "out")
    put(path, "first")
    message = r"was made by `first`, not by `second`; .* overwrite: true"
    with pytest.raises(StorageError, match=message):
        put(path, "second")
    put(path, "second", overwrite=True)
    assert storage.read_manifest(path)["made_by"] == "second"
    storage.remove(path)
    storage.claim(path, "first")
    with pytest.raises(StorageError, match=message):
        storage.claim(path, "second")
    storage.claim(path, "second", overwrite=True)
    storage.claim(path, "second")


# ------------------------------------------------------------------------------- run folders


def test_claim_and_finish(root: str) -> None:
    path = storage.join(root, "run")
    storage.claim(path, "job")
    assert storage.exists(path) and not storage.is_published(path)
    put(storage.join(path, "model"))
    with pytest.raises(StorageError, match="is not a finished sparkrec output"):
        storage.read_manifest(path)
    storage.finish(path, "job", {"dataset": "d"})
    manifest = storage.read_manifest(path)
    assert (manifest["made_by"], manifest["dataset"]) == ("job", "d")
    assert [f["name"] for f in manifest["files"]] == ["model/_sparkrec.json", "model/part-0"]
    assert names(path) == ["_sparkrec.json", "model/_sparkrec.json", "model/part-0"]


def test_claim_again(root: str) -> None:
    path = storage.join(root, "run")
    for finished in (False, True):
        storage.claim(path, "job")
        storage.write_bytes(storage.join(path, "work", "x"), b"1")
        if finished:
            storage.finish(path, "job", {})
        storage.claim(path, "job", keep=True)
        assert not storage.is_published(path)
        assert names(storage.join(path, "work")) == ["x"]
        storage.claim(path, "job")
        assert not storage.exists(storage.join(path, "work"))


def test_killed_while_it_takes_an_old_run_away(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = storage.join(root, "run")
    storage.claim(path, "job")
    storage.write_bytes(storage.join(path, "work", "x"), b"1")
    storage.finish(path, "job", {})
    removed: list[str] = []
    remove = storage.remove

    def killed(name: str) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(name)
        remove(name)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(storage, "remove", killed)
        if storage.is_s3(root):
            patched.setattr(storage, "_s3_delete", lambda *_: killed(""))
            removed.append("")
        storage.claim(path, "job")
    storage.claim(path, "job")
    storage.finish(path, "job", {})
    assert names(path) == ["_sparkrec.json"]


# ------------------------------------------------------------------------------- killed writers


def test_leftovers_of_a_killed_writer(root: str) -> None:
    path = storage.join(root, "out")
    put(path, content=b"old")
    for left in (".out.staging-1/_temporary/x", ".out.staging-2/y", ".outer.staging-1/z"):
        storage.write_bytes(storage.join(root, left), b"")
    put(path)
    assert names(root) == [".outer.staging-1/z", "out/_sparkrec.json", "out/part-0"]


def test_killed_between_the_two_renames(tmp_path: Path) -> None:
    path = tmp_path / "o[u]t"
    put(str(path), content=b"old")
    path.rename(tmp_path / ".o[u]t.replaced-1")
    (tmp_path / ".o[u]t.staging-1").mkdir()
    with pytest.raises(KeyError), publish(str(path), "job"):
        assert (path / "part-0").read_bytes() == b"old"
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["o[u]t"]
    (tmp_path / ".o[u]t.replaced-2").write_text("a file that was replaced")
    put(str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["o[u]t"]


def test_killed_between_the_two_renames_of_anothers(tmp_path: Path) -> None:
    path = tmp_path / "out"
    put(str(path), "first")
    path.rename(tmp_path / ".out.replaced-1")
    with pytest.raises(StorageError, match="made by `first`"):
        put(str(path), "second")
    assert storage.read_manifest(str(path))["made_by"] == "first"


@pytest.mark.parametrize("moment", ["client.copy", "write_json"])
def test_killed_while_it_moves_on_s3(s3: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{s3}/out"
    put(path, content=b"old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    client, _, _ = storage._s3(s3)
    write_json = storage.write_json
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if moment == "client.copy":
            patched.setattr(client, "copy", killed)
        else:
            patched.setattr(
                storage,
                "write_json",
                lambda name, value: (killed if "files" in value else write_json)(name, value),
            )
        put(path)
    assert not storage.is_published(path)
    put(path)
    assert names(s3) == ["out/_sparkrec.json", "out/part-0"]


SLOW_WRITER = """
import sys, time
from pathlib import Path
from sparkrec import storage

path, signal, kind = sys.argv[1:]
if kind == "run":
    storage.claim(path, "job")
with storage.publish(path + "/model" if kind == "run" else path, "job") as staging:
    for i in range(8):
        storage.write_bytes(f"{staging}/part-{i}", bytes(20_000))
        Path(signal).write_text(str(i))
        time.sleep(0.05)
if kind == "run":
    storage.finish(path, "job", {})
Path(signal).write_text("done")
"""


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, *arguments], cwd=REPO, env=dict(os.environ))


def wait_for(signalled: Path, seen: Callable[[str], bool], process: Any) -> None:
    while not (signalled.exists() and seen(signalled.read_text())):
        assert process.poll() is None, "the writer ended early"
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["output", "run"])
def test_kill_9(root: str, kind: str, tmp_path: Path) -> None:
    path, signalled = storage.join(root, "out"), tmp_path / "signal"
    for moment in ("0", "3", "7"):
        signalled.unlink(missing_ok=True)
        writer = start("-c", SLOW_WRITER, path, str(signalled), kind)
        wait_for(signalled, lambda text, moment=moment: text == moment, writer)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        parts = storage.join(path, "model") if kind == "run" else path
        if storage.is_published(parts):
            # The last kill may come a moment after the end.
            assert len(storage.read_manifest(parts)["files"]) == 8
        else:
            assert not storage.exists(parts)
    writer = start("-c", SLOW_WRITER, path, str(signalled), kind)
    assert writer.wait() == 0
    files = [f"part-{i}" for i in range(8)]
    expected = ["_sparkrec.json", *files]
    if kind == "run":
        expected = ["_sparkrec.json", *(f"model/{name}" for name in expected)]
    assert names(root) == [f"out/{name}" for name in expected]
    assert json.loads(storage.read_bytes(storage.join(path, "_sparkrec.json")))["made_by"] == "job"


SWAPPER = """
import sys
from pathlib import Path
from sparkrec import storage

for i in range(100_000):
    with storage.publish(sys.argv[1], "job") as staging:
        storage.write_bytes(f"{staging}/a", str(i).encode())
        storage.write_bytes(f"{staging}/b", str(i).encode())
    Path(sys.argv[2]).write_text(str(i))
"""


def test_kill_9_while_an_output_is_replaced(tmp_path: Path) -> None:
    root = tmp_path / "root"
    path, signalled = root / "out", tmp_path / "signal"
    for moment in range(3, 9):
        signalled.unlink(missing_ok=True)
        writer = start("-c", SWAPPER, str(path), str(signalled))
        wait_for(signalled, lambda text, moment=moment: int(text or 0) >= moment, writer)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        if path.exists():
            assert storage.is_published(str(path))
            assert (path / "a").read_bytes() == (path / "b").read_bytes()
    put(str(path))
    assert names(str(root)) == ["out/_sparkrec.json", "out/part-0"]


SPARK_WRITER = """
import sys, time
from pathlib import Path
from pyspark.sql import functions as F
from sparkrec.session import open_session
from sparkrec.tables import write_table

path, signal, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
spark = open_session("writer", {"master": "local[2]", "ui.enabled": "false"})

@F.udf("long")
def slow(i):
    Path(signal).write_text(str(i))
    time.sleep(seconds)
    return i

rows = spark.range(0, 8, numPartitions=8).select(slow("id").alias("id"))
print(write_table(rows, path, "job")["rows"])
"""


@pytest.mark.slow
def test_kill_9_while_spark_writes(tmp_path: Path) -> None:
    root = tmp_path / "my root"
    root.mkdir()
    path, signalled = root / "table", tmp_path / "signal"
    writer = subprocess.Popen(
        [sys.executable, "-c", SPARK_WRITER, str(path), str(signalled), "0.5"],
        cwd=REPO,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    wait_for(signalled, lambda text: text not in ("", "0", "1"), writer)
    assert list(root.rglob("*.parquet")), "Spark has begun to write"
    os.killpg(writer.pid, signal.SIGKILL)
    writer.wait()
    # The JVM is in a session of its own and ends when its driver does; until then it may write.
    assert not path.exists()
    assert [p.name.split("-")[0] for p in root.iterdir()] == [".table.staging"]
    done = subprocess.run(
        [sys.executable, "-c", SPARK_WRITER, str(path), str(signalled), "0"],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "8"), done.stderr
    assert [p.name for p in root.iterdir()] == ["table"]
    manifest = storage.read_manifest(str(path))
    assert manifest["rows"] == 8
    assert {f["name"] for f in manifest["files"]} < set(names(str(path)))

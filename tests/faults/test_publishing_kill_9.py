"""Writers killed with SIGKILL: what stands there is whole, and the next writer cleans up."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparkrec.io import storage
from sparkrec.io.outputs import POINTER, is_published, open_output, read_manifest, runs
from sparkrec.io.publishing import publish

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]

SLOW_WRITER = """
import sys, time
from pathlib import Path
from sparkrec.io import storage
from sparkrec.io.publishing import part, publish

path, signal, kind = sys.argv[1:]
parts = ("model",) if kind == "parts" else ()
with publish(path, "job", parts=parts) as folder:
    target = f"{folder}/model" if parts else folder
    for i in range(8):
        storage.write_bytes(f"{target}/part-{i}", bytes(20_000))
        Path(signal).write_text(str(i))
        time.sleep(0.05)
    if parts:
        with part(f"{folder}/last"):
            storage.write_bytes(f"{folder}/last/x", b"1")
Path(signal).write_text("done")
"""


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, *arguments], cwd=REPO, env=dict(os.environ))


def wait_for(signalled: Path, seen: Callable[[str], bool], process: Any) -> None:
    while not (signalled.exists() and seen(signalled.read_text())):
        assert process.poll() is None, "the writer ended early"
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["output", "parts"])
def test_kill_9(place: str, kind: str, tmp_path: Path) -> None:
    path, signalled = storage.join(place, "out"), tmp_path / "signal"
    before: list[str] = []
    for moment in ("0", "3", "7", "done"):
        signalled.unlink(missing_ok=True)
        writer = start("-c", SLOW_WRITER, path, str(signalled), kind)
        if moment == "done":
            assert writer.wait() == 0
        else:
            wait_for(signalled, lambda text, moment=moment: text == moment, writer)
            writer.send_signal(signal.SIGKILL)
            assert writer.wait() == -signal.SIGKILL
        if is_published(path):  # the last kill may come a moment after the end
            assert len(read_manifest(path)["files"]) == (10 if kind == "parts" else 8)
            assert runs(path)[: len(before)] == before
            before = runs(path)
        else:
            assert moment != "done"
    # One folder, that of the current version, is left of all attempts.
    names = {file.name.split("/")[1] for file in storage.list_files(place)}
    assert names == {*runs(path), POINTER}


SWAPPER = """
import sys
from pathlib import Path
from sparkrec.io import storage
from sparkrec.io.publishing import publish

for i in range(100_000):
    with publish(sys.argv[1], "job") as folder:
        storage.write_bytes(f"{folder}/a", str(i).encode())
        storage.write_bytes(f"{folder}/b", str(i).encode())
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
        published = open_output(str(path))
        contents = {storage.read_bytes(published.path(name)) for name in "ab"}
        assert len(contents) == 1
    with publish(str(path), "job") as folder:
        storage.write_bytes(f"{folder}/a", b"last")
    assert [p.name for p in root.iterdir()] == ["out"]
    assert sorted(p.name for p in path.iterdir()) == [*runs(str(path)), POINTER]
    assert [file["name"] for file in read_manifest(str(path))["files"]] == ["a"]


SPARK_WRITER = """
import sys, time
from pathlib import Path
from pyspark.sql import functions as F
from sparkrec.session import open_session
from sparkrec.io.tables import write_table

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
    assert not is_published(str(path))
    done = subprocess.run(
        [sys.executable, "-c", SPARK_WRITER, str(path), str(signalled), "0"],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "8"), done.stderr
    assert [p.name for p in root.iterdir()] == ["table"]
    assert sorted(p.name for p in path.iterdir()) == [*runs(str(path)), POINTER]
    assert read_manifest(str(path))["rows"] == 8

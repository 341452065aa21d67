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
from sparkrec.io.publishing import MANIFEST, is_published, publish, read_manifest

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]

SLOW_WRITER = """
import sys, time
from pathlib import Path
from sparkrec.io import storage
from sparkrec.io.publishing import claim, finish, publish

path, signal, kind = sys.argv[1:]
if kind == "run":
    claim(path, "job")
with publish(path + "/model" if kind == "run" else path, "job") as staging:
    for i in range(8):
        storage.write_bytes(f"{staging}/part-{i}", bytes(20_000))
        Path(signal).write_text(str(i))
        time.sleep(0.05)
if kind == "run":
    finish(path, "job", {})
Path(signal).write_text("done")
"""


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, *arguments], cwd=REPO, env=dict(os.environ))


def wait_for(signalled: Path, seen: Callable[[str], bool], process: Any) -> None:
    while not (signalled.exists() and seen(signalled.read_text())):
        assert process.poll() is None, "the writer ended early"
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["output", "run"])
def test_kill_9(place: str, kind: str, tmp_path: Path) -> None:
    path, signalled = storage.join(place, "out"), tmp_path / "signal"
    for moment in ("0", "3", "7"):
        signalled.unlink(missing_ok=True)
        writer = start("-c", SLOW_WRITER, path, str(signalled), kind)
        wait_for(signalled, lambda text, moment=moment: text == moment, writer)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        parts = storage.join(path, "model") if kind == "run" else path
        if is_published(parts):
            # The last kill may come a moment after the end.
            assert len(read_manifest(parts)["files"]) == 8
        else:
            assert not storage.exists(parts)
    writer = start("-c", SLOW_WRITER, path, str(signalled), kind)
    assert writer.wait() == 0
    files = [f"part-{i}" for i in range(8)]
    expected = [MANIFEST, *files]
    if kind == "run":
        expected = [MANIFEST, *(f"model/{name}" for name in expected)]
    assert [f.name for f in storage.list_files(place)] == [f"out/{name}" for name in expected]
    assert read_manifest(path)["made_by"] == "job"


SWAPPER = """
import sys
from pathlib import Path
from sparkrec.io import storage
from sparkrec.io.publishing import publish

for i in range(100_000):
    with publish(sys.argv[1], "job") as staging:
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
            assert is_published(str(path))
            assert (path / "a").read_bytes() == (path / "b").read_bytes()
    with publish(str(path), "job") as staging:
        storage.write_bytes(f"{staging}/a", b"last")
    assert [p.name for p in root.iterdir()] == ["out"]
    assert sorted(p.name for p in path.iterdir()) == [MANIFEST, "a"]


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
    manifest = read_manifest(str(path))
    assert manifest["rows"] == 8
    assert {f["name"] for f in manifest["files"]} < {p.name for p in path.iterdir()}

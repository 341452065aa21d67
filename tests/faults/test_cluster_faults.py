"""Faults of a cluster and of S3: executors, trainers, drivers, requests and disks that fail.

`make faults` prints the same as a table.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bench import BAD, table
from cluster_bench import Benches, benches
from cluster_faults import SCENARIOS, run, why_not
from harness import REPO
from layouts import MANIFEST, resolve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    folder = tmp_path_factory.mktemp("cluster")
    with benches(REPO, Path(sys.executable), folder) as on:
        yield on


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_faults(on: Benches, scenario: str) -> None:
    reason = why_not(scenario)
    if reason is not None:
        pytest.skip(reason)
    found = run(scenario, on)
    print(table(found))
    bad = [counts for counts in found.values() if any(counts[name] for name in BAD)]
    assert not bad, table(found)


ROWS = 200_000
# Writes tables whose first task is disturbed in its first attempt, once it has begun a file.
WRITER = """
import json, sys, time
from pathlib import Path
from pyspark import TaskContext
from sparkrec.io.tables import write_table
from sparkrec.session import open_session

settings, rows, hits, tables = json.loads(sys.argv[1])
spark = open_session("writer", settings, list(tables))
for path, fault in tables.items():
    def disturbed(batches):
        yield from batches
        task = TaskContext.get()
        if task.partitionId() or task.attemptNumber():
            return
        until = time.monotonic() + 60
        while path.startswith("/") and not list(Path(path).glob("**/attempt_*/part-00000*")):
            assert time.monotonic() < until, "no file of the task is seen"
            time.sleep(0.05)
        Path(hits, fault).touch()
        if fault == "slow":
            time.sleep(60)
        raise RuntimeError("the first attempt fails")

    write_table(spark.range(0, rows, 1, 4).mapInArrow(disturbed, "id long"), path, "job")
spark.stop()
"""


def test_speculative_and_repeated_tasks_do_not_write_twice(on: Benches, tmp_path: Path) -> None:
    """A task that is run a second time beside the first, and one that fails when it has written."""
    place = on.on_disk
    disk, hits = tmp_path / "out", tmp_path / "hits"
    hits.mkdir()
    tables = {str(disk / fault): fault for fault in ("slow", "fails")}
    if on.in_bucket is not None:
        place = on.in_bucket
        tables["s3://test/out/fails"] = "fails"
    settings = {
        **place.spark(),
        "speculation": True,
        "speculation.interval": "100ms",
        "speculation.multiplier": 1.1,
        "speculation.quantile": 0.5,
    }
    ended = subprocess.run(
        [sys.executable, "-c", WRITER, json.dumps([settings, ROWS, str(hits), tables])],
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert {hit.name for hit in hits.iterdir()} == {"slow", "fails"}
    ends = [event for event in place.happened() if event["Event"] == "SparkListenerTaskEnd"]
    assert any(end["Task Info"]["Speculative"] for end in ends)
    failed = [end for end in ends if end["Task End Reason"]["Reason"] == "ExceptionFailure"]
    assert len(failed) >= len(tables) - 1
    place.fetch()
    for path in tables:
        folder = resolve(Path(path.replace("s3://test", str(place.root))))
        manifest = json.loads((folder / MANIFEST).read_text())
        names = [e["name"] for e in manifest["files"] if e["name"].endswith(".parquet")]
        assert len(names) == len(list(folder.glob("**/*.parquet"))) == 4
        ids = [i for name in names for i in pq.read_table(folder / name)["id"].to_pylist()]
        assert sorted(ids) == list(range(ROWS)) and manifest["rows"] == ROWS

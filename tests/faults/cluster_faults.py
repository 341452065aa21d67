"""Faults of a cluster and of S3, each at its moment; rows of the table of `make faults`.

A scenario disturbs one run or several of a job, and yields a row for each fault. As elsewhere, the
old output or the new one must be there after each, whole, and a run that is let go on makes the new
one. Moments are seen from outside: in Spark's event log, in the processes, in the requests to S3.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic

import psutil
import pyarrow.parquet as pq
from cluster_bench import (
    RESUME,
    SPLIT,
    TRAINING,
    Benches,
    after_checkpoint,
    ended,
    in_training,
    left_running,
    nothing_left,
    resumed,
    said,
)
from disks import can_mount, small_disk
from layouts import MANIFEST, resolve
from processes import wait_until
from s3a_jars import jars_of_s3a

# Seconds from the moment when S3 is gone for good to the end of the job.
GIVEN_UP_AFTER = 60

# How often a fault whose moment cannot be chosen exactly is tried.
_ATTEMPTS = 5

Row = tuple[str, str, Counter[str]]


def executor_killed(on: Benches) -> Iterator[Row]:
    """`kill -9` of an executor when it has written the first file of a shuffle.

    What it had done may not be needed any more by then. The run is repeated until one has lost
    tasks, by Spark's own log.
    """
    bench, place = on.disk, on.on_disk
    counts: Counter[str] = Counter()
    for _ in range(_ATTEMPTS):
        running = bench.start(SPLIT)
        hit = False
        while not hit and running.process.poll() is None:
            for number in range(place.cluster.workers):
                written = place.cluster.worker_folder(number).glob("local/**/shuffle_*.data")
                if not hit and any(True for _ in written):
                    worker = place.cluster.worker_pids[number]
                    for executor in place.cluster.executors():
                        if executor.ppid() == worker:
                            executor.kill()
                            hit = True
        counts += ended(bench, SPLIT, running, None)
        events = place.happened()
        removed = [event for event in events if event["Event"] == "SparkListenerExecutorRemoved"]
        again = [
            event
            for event in events
            if event.get("Task End Reason", {}).get("Reason")
            in ("ExecutorLostFailure", "FetchFailed", "Resubmitted")
        ]
        if hit and removed and again:
            break
    else:
        counts["not hit"] += 1
    yield SPLIT.name, "executor killed", counts + nothing_left(bench)


def training_processes_killed(on: Benches) -> Iterator[Row]:
    """`kill -9` of a trainer, of a launcher and of the driver; each next run resumes."""
    bench, cluster = on.disk, on.cluster
    line = r"training process.*; set training\.resume: true"

    running = bench.start(TRAINING)
    trainers = in_training(bench, running)
    hit = after_checkpoint(bench, running, trainers[-1].kill)
    counts = ended(bench, TRAINING, running, line)
    counts["not hit"] += not hit
    yield TRAINING.name, "trainer killed", counts

    running = bench.start(TRAINING, RESUME)
    in_training(bench, running)
    hit = after_checkpoint(bench, running, cluster.launchers()[-1].kill)
    counts = ended(bench, TRAINING, running, line)
    counts["not hit"] += not hit
    yield TRAINING.name, "launcher killed", counts

    running = bench.start(TRAINING, RESUME)
    in_training(bench, running)
    hit = after_checkpoint(bench, running, running.process.kill)
    running.wait()
    counts = left_running(bench, running) + bench.look(TRAINING, running)
    counts["not hit"] += not hit
    counts += resumed(bench)
    yield TRAINING.name, "driver killed", counts + nothing_left(bench)


def worker_without_room(on: Benches) -> Iterator[Row]:
    """One of the workers has no room for what Spark shuffles."""
    bench, cluster = on.disk, on.cluster
    cluster.wait_idle()
    with small_disk(cluster.worker_folder(0) / "local", 16):
        running = bench.start(SPLIT)
        counts = ended(bench, SPLIT, running, r"no space left on the device of executor \d+ on")
        cluster.wait_idle()
    yield SPLIT.name, "worker's disk full", counts + bench.again(SPLIT) + nothing_left(bench)


def rank_without_rows(on: Benches) -> Iterator[Row]:
    """There are fewer training rows than training processes."""
    bench = on.disk
    train = resolve(bench.place.root / TRAINING.reads)
    (file,) = train.glob("*.parquet")
    user = pq.read_table(file).slice(0, 1)["user_id"][0].as_py()
    pq.write_table(pq.read_table(file, filters=[("user_id", "=", user)]), file)
    manifest = json.loads((train / MANIFEST).read_text())
    manifest["rows"] = pq.ParquetFile(file).metadata.num_rows
    manifest["files"] = [{"name": file.name, "size": file.stat().st_size}]
    (train / MANIFEST).write_text(json.dumps(manifest))
    (train / f".{file.name}.crc").unlink()  # Hadoop's, of the whole table
    running = bench.start(TRAINING)
    code = running.wait()
    counts = Counter(runs=1) + left_running(bench, running)
    counts += said(running, code, None)
    # It is new; there is no undisturbed output to compare it with.
    content = bench.place.content(TRAINING)
    new = len(content) == 64 and content != bench.old[TRAINING.name]
    counts["new whole" if new else "lost"] += 1
    yield TRAINING.name, "rank without rows", counts + nothing_left(bench)


def s3_fails_a_split(on: Benches) -> Iterator[Row]:
    """Keys expire while Spark reads; S3 refuses for 20 seconds then, and again at the end."""
    bench, gate = on.bucket, on.s3.gate
    expired = gate.when(r"GET /test/data/[^/]+/events/part", "expire")
    running = bench.start(SPLIT)
    counts = ended(bench, SPLIT, running, r"s3://test/data/.*session token.* expired")
    counts["not hit"] += not expired.came.is_set()
    gate.open()
    yield SPLIT.name, "keys expire", counts

    reading = gate.when(r"GET /test/data/[^/]+/events/part", "refuse", 20)
    publishing = gate.when(r"PUT /test/data/split/LATEST", "refuse", 20)
    running = bench.start(SPLIT)
    counts = ended(bench, SPLIT, running, None)
    counts["not hit"] += not (reading.came.is_set() and publishing.came.is_set())
    gate.open()
    yield SPLIT.name, "S3 refuses for 20 s", counts + nothing_left(bench)


def s3_fails_a_training(on: Benches) -> Iterator[Row]:
    """Keys expire; S3 is gone for good; S3 refuses for 20 s. Each next run resumes."""
    bench, gate = on.bucket, on.s3.gate
    expired = gate.when(r"PUT .*-epoch-0003/weights", "expire")
    running = bench.start(TRAINING)
    counts = ended(bench, TRAINING, running, r"s3://test/.*session token.* expired")
    counts["not hit"] += not expired.came.is_set()
    gate.open()
    yield TRAINING.name, "keys expire", counts

    gone = gate.when(r"PUT .*-epoch-0006/weights", "refuse")
    running = bench.start(TRAINING, RESUME)
    wait_until(lambda: gone.came.is_set() or running.process.poll() is not None, "S3 is gone", 120)
    since = monotonic()
    counts = ended(bench, TRAINING, running, r"s3://test/.*: S3 cannot be reached")
    seconds = monotonic() - since
    print(f"S3 gone for good: given up after {seconds:.0f} s")
    counts["other end"] += seconds > GIVEN_UP_AFTER
    counts["not hit"] += not gone.came.is_set()
    gate.open()
    yield TRAINING.name, "S3 gone for good", counts

    refused = gate.when(r"PUT .*-epoch-0009/weights", "refuse", 20)
    counts = resumed(bench)
    counts["not hit"] += not refused.came.is_set()
    gate.open()
    yield TRAINING.name, "S3 refuses for 20 s", counts + nothing_left(bench)


def two_drivers(on: Benches) -> Iterator[Row]:
    """A second driver, while the first one has begun to write the same output on S3."""
    bench, place = on.bucket, on.s3
    one_core = f"spark={json.dumps({**place.spark(), 'cores.max': 1})}"
    asked = len(place.gate.requests)
    first = bench.start(SPLIT, one_core)

    def has_begun() -> bool:
        # The claim of a version comes when the lease is taken.
        claims = [r for r in place.gate.requests[asked:] if r.endswith("_sparkrec.writing.json")]
        return bool(claims) or first.process.poll() is not None

    wait_until(has_begun, "the first driver has begun to write", 120)
    # Its JVM stands still, so that it does not end too early; Python goes on to renew the lease.
    children = psutil.Process(first.process.pid).children(recursive=True)
    jvms = [process for process in children if process.name() == "java"]
    for jvm in jvms:
        jvm.suspend()
    try:
        second = bench.start(SPLIT, one_core)
        code = second.wait()
        counts = bench.look(SPLIT, second, code)
        counts["not hit"] += not jvms or bench.place.content(SPLIT) != bench.old[SPLIT.name]
    finally:
        for jvm in jvms:
            jvm.resume()
    counts += said(second, code, r"is being written by process \d+ on .* wait until it has ended")
    counts += left_running(bench, second, of_cluster=False)
    yield SPLIT.name, "second driver", counts
    yield SPLIT.name, "first driver", ended(bench, SPLIT, first, None) + nothing_left(bench)


SCENARIOS: dict[str, Callable[[Benches], Iterator[Row]]] = {
    "executor killed": executor_killed,
    "training killed": training_processes_killed,
    "worker's disk full": worker_without_room,
    "rank without rows": rank_without_rows,
    "S3 fails a split": s3_fails_a_split,
    "S3 fails a training": s3_fails_a_training,
    "two drivers": two_drivers,
}
_ON_S3 = ("S3 fails a split", "S3 fails a training", "two drivers")


def why_not(scenario: str) -> str | None:
    """Why a scenario cannot be tried here, or None."""
    if scenario in _ON_S3 and not jars_of_s3a():
        return "SPARKREC_S3A_JARS does not name a folder with the jars of hadoop-aws"
    if scenario == "worker's disk full" and not can_mount():
        return "it needs a right to mount file systems"
    return None


def run(scenario: str, on: Benches) -> dict[tuple[str, str], Counter[str]]:
    """The counts of a scenario by job and fault; the old outputs are there again afterwards."""
    bench = on.bucket if scenario in _ON_S3 else on.disk
    try:
        return {(job, fault): counts for job, fault, counts in SCENARIOS[scenario](on)}
    finally:
        bench.reset()

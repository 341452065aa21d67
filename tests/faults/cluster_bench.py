"""Jobs on a cluster, with their data on a disk or on S3, and what is counted after a fault."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import sleep
from typing import Any

import psutil
from bench import Bench
from cluster import Cluster
from fault_jobs import JOBS, Job
from layouts import CHECKPOINTS, MANIFEST
from places import InBucket, OnCluster, Place, Running
from processes import wait_until
from s3_gate import Gate
from s3_server import ENVIRONMENT, s3_server
from s3a_jars import jars_of_s3a

SPLIT = next(job for job in JOBS if job.name == "match_dataset")
TRAINING = next(job for job in JOBS if job.name == "gru4rec")
RESUME = "training.resume=true"


@dataclass(frozen=True)
class Benches:
    """Jobs on a cluster, with their data on a disk and, given the jars of S3A, on S3.

    Attributes
    ----------
    inputs
        Where the old outputs are made.
    on_disk, in_bucket
        Where they are replaced.
    """

    inputs: Place
    on_disk: OnCluster
    in_bucket: InBucket | None

    @cached_property
    def disk(self) -> Bench:
        """The jobs with their data on a disk; they are run first to make what they have to make."""
        return Bench(self.on_disk, [SPLIT, TRAINING], made_in=self.inputs)

    @cached_property
    def bucket(self) -> Bench:
        """The same jobs with their data on S3."""
        return self.disk.moved(self.s3)

    @property
    def cluster(self) -> Cluster:
        """The cluster."""
        return self.on_disk.cluster

    @property
    def s3(self) -> InBucket:
        """The place with its data on S3, which must be there."""
        assert self.in_bucket is not None
        return self.in_bucket


@contextmanager
def benches(tree: Path, python: Path, base: Path) -> Iterator[Benches]:
    """A cluster, an S3 server, and outputs to be replaced."""
    with ExitStack() as stack:
        server = stack.enter_context(s3_server())
        gate = stack.enter_context(Gate(int(server.rpartition(":")[2])))
        env = {**ENVIRONMENT, "AWS_ENDPOINT_URL": gate.url}
        cluster = stack.enter_context(Cluster(base / "cluster", env=env))
        jars = jars_of_s3a()
        in_bucket = InBucket(tree, python, base / "bucket", cluster, server, gate, jars)
        yield Benches(
            Place(tree, python, base / "inputs"),
            OnCluster(tree, python, base / "disk", cluster),
            in_bucket if jars else None,
        )


def on_cluster(bench: Bench) -> OnCluster:
    """The place of a bench on the cluster."""
    assert isinstance(bench.place, OnCluster)
    return bench.place


def ended(bench: Bench, job: Job, running: Running, line: str | None) -> Counter[str]:
    """Wait for the end of a disturbed run, which must be success (None) or this error."""
    code = running.wait()
    counts = bench.look(job, running, code) + said(running, code, line)
    return counts + left_running(bench, running)


def said(running: Running, code: int, line: str | None) -> Counter[str]:
    """Whether a run ended with success (None), or with an error that the pattern is found in."""
    errors = running.errors
    as_wanted = code == 0 if line is None else code == 1 and re.search(line, " ".join(errors))
    if not as_wanted:
        print(f"ended with {code}: {errors or running.printed[-2000:]}", flush=True)
    elif errors:
        print(errors[0], flush=True)
    return Counter({"other end": int(not as_wanted)})


def left_running(bench: Bench, running: Running, of_cluster: bool = True) -> Counter[str]:
    """Whether processes of the run live on after it has ended, on the cluster as well."""
    alive = running.left(10, end=True)
    found = on_cluster(bench).cluster.left(15) if of_cluster else []
    for process in found:
        print(f"left: {process.pid} {' '.join(process.cmdline())[:200]}", flush=True)
        process.kill()
    return Counter({"alive": int(bool(alive or found))})


def nothing_left(bench: Bench) -> Counter[str]:
    """Whether files are left, after a run that succeeded."""
    left = bench.place.leftovers()
    if left:
        print(f"left {left[:3]}", flush=True)
    return Counter({"leftovers": int(bool(left))})


def resumed(bench: Bench) -> Counter[str]:
    """A run that resumes, and is to make what an undisturbed run makes."""
    running = bench.start(TRAINING, RESUME)
    counts = ended(bench, TRAINING, running, None)
    counts["rerun fails"] += bench.place.content(TRAINING) != bench.new[TRAINING.name]
    counts["other end"] += "resuming after epoch" not in running.printed
    return counts


def in_training(bench: Bench, running: Running) -> list[psutil.Process]:
    """Wait until all training processes have started."""
    trainers: list[psutil.Process] = []

    def started() -> bool:
        trainers[:] = on_cluster(bench).cluster.trainers()
        return len(trainers) == 2 or running.process.poll() is not None

    wait_until(started, "the training processes have started", 120)
    return trainers


def after_checkpoint(bench: Bench, running: Running, act: Callable[[], Any]) -> bool:
    """Do something once the training has written another checkpoint; returns whether it was so."""
    output = bench.place.root / TRAINING.output

    def newest() -> str:
        return max(
            (p.parent.name for p in output.glob(f"*/{CHECKPOINTS}/*-epoch-*/{MANIFEST}")),
            default="",
        )

    before = newest()
    while running.process.poll() is None:
        if newest() > before:
            act()
            return True
        sleep(0.005)
    return False

"""Jobs that are disturbed: the old output or the new one is there, whole, and a rerun succeeds.

`make faults KILLS=100` does the same many times over.
"""

import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import BAD, Bench, table
from disks import can_mount
from fault_jobs import JOBS, Job
from harness import FAULTS, MOUNTING, REPO, killed_at
from places import Place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Place(REPO, Path(sys.executable), tmp_path_factory.mktemp("faults")))


@pytest.fixture(autouse=True)
def old_outputs(bench: Bench) -> Iterator[None]:
    yield
    bench.reset()


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_kill_9(bench: Bench, job: Job) -> None:
    """At a seeded moment; the jobs have theirs in different thirds of the run."""
    share = (JOBS.index(job) % 3 + random.Random(job.name).random()) / 3
    check(job, "kill -9", killed_at(bench, job, share) + bench.again(job))


@pytest.mark.parametrize(
    ("job", "fault"),
    [
        ("prepare", "SIGTERM"),
        ("gru4rec", "SIGINT"),
        ("match_dataset", "two at once"),
        ("match_dataset", "input removed"),
        ("gru4rec", "disk full"),
        ("match_dataset", "shuffle disk full"),
        ("recommend", "read-only"),
    ],
)
def test_other_faults(bench: Bench, job: str, fault: str) -> None:
    if fault in MOUNTING and not can_mount():
        pytest.skip("needs a right to mount file systems")
    chosen = next(one for one in JOBS if one.name == job)
    check(chosen, fault, FAULTS[fault](bench, chosen, random.Random(f"{job} {fault}")))


def check(job: Job, fault: str, counts: Counter[str]) -> None:
    assert not any(counts[name] for name in BAD), table({(job.name, fault): counts})

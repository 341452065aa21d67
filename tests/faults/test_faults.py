"""Jobs that are disturbed: the old output or the new one is there, whole, and a rerun succeeds.

`make faults KILLS=100` does the same many times over.
"""

import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_jobs import JOBS, Job, Place
from harness import COLUMNS, FAULTS, MOUNTING, REPO, Bench, can_mount, table

pytestmark = pytest.mark.slow

BAD = COLUMNS[COLUMNS.index("lost") :]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Place(REPO, Path(sys.executable), tmp_path_factory.mktemp("faults")))


@pytest.fixture(autouse=True)
def old_outputs(bench: Bench) -> Iterator[None]:
    yield
    bench.reset()


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_kill_9(bench: Bench, job: Job, number: int) -> None:
    """At three moments: one in each third of the run, by the same seed every time."""
    check(job, "kill -9", FAULTS["kill -9"](bench, job, Third(number)))


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


class Third(random.Random):
    """Numbers from one third of the range that is asked for."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * (self.number + self.random()) / 3


def check(job: Job, fault: str, counts: Counter[str]) -> None:
    assert not any(counts[name] for name in BAD), table({(job.name, fault): counts})

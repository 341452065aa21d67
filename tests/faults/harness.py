"""`make faults KILLS=100`: disturbs jobs, and counts what became of their outputs.

A job has made an output (the old one) and is to make another (the new one) in the same place. After
each fault readers must find the old one or the new one, whole; and the job, run again, must make
the new one and leave nothing else behind.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]

from fault_jobs import JOBS, Job, Place, Running, write_raw  # noqa: E402
from layouts import resolve, restore  # noqa: E402

REPO = Path(__file__).parents[2]
# Columns of the table. All from `lost` on must be zero.
COLUMNS = ("runs", "old whole", "new whole", "lost", "trace", "alive", "rerun fails", "leftovers")

Fault = Callable[["Bench", Job, random.Random], Counter[str]]


class Bench:
    """Jobs that have made their outputs once, and how to disturb the next run of one of them."""

    def __init__(self, place: Place, jobs: Sequence[Job] = JOBS) -> None:
        self.place = place
        write_raw(place.root)
        # The later jobs read what the earlier ones wrote.
        for job in JOBS[: max(JOBS.index(job) for job in jobs) + 1]:
            self._must(place.start(job))
        self.copy = place.base / "copy"
        restore(self.copy, place.root)
        self.old = {job.name: place.content(job) for job in jobs}
        self.new: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.kilobytes: dict[str, int] = {}
        for job in jobs:
            start = monotonic()
            self._must(self.start(job))
            self.seconds[job.name] = monotonic() - start
            self.kilobytes[job.name] = _kilobytes(place.root) - _kilobytes(self.copy)
            self.new[job.name] = place.content(job)
            assert len(self.new[job.name]) == 64 and self.new[job.name] != self.old[job.name]
            self.reset()

    def start(self, job: Job, *sets: str) -> Running:
        """Start the run that is to replace the old output."""
        return self.place.start(job, job.change, *sets)

    def reset(self) -> None:
        """Back to the old outputs."""
        restore(self.place.root, self.copy)
        shutil.rmtree(self.place.temporary, ignore_errors=True)

    def judge(self, job: Job, running: Running, code: int | None = None) -> Counter[str]:
        """Count what is there after a fault, run the job again, and count what is then there."""
        return self.look(job, running, code) + self.again(job)

    def look(self, job: Job, running: Running, code: int | None = None) -> Counter[str]:
        """Count what is there after a fault, and what the job said if it ended by itself."""
        found: Counter[str] = Counter(runs=1)
        content = self.place.content(job)
        whole = {self.old[job.name]: "old whole", self.new[job.name]: "new whole"}.get(content)
        found[whole or "lost"] += 1
        printed = running.printed
        told = code in (None, 0) or (
            "Traceback" not in printed
            and "\tat " not in printed
            and sum(line.startswith("error: ") for line in printed.splitlines()) == 1
        )
        found["trace"] += not told
        if not (whole and told):
            print(f"{job.name}: {content}: {printed[-600:]}", flush=True)
        return found

    def again(self, job: Job) -> Counter[str]:
        """Run the job to its end, and count what is amiss then."""
        again = self.start(job)
        code = again.wait()
        found: Counter[str] = Counter()
        if code != 0 or self.place.content(job) != self.new[job.name]:
            found["rerun fails"] += 1
            print(f"{job.name}, again: {code}: {again.printed[-600:]}", flush=True)
        left = self.place.leftovers()
        if left:
            found["leftovers"] += 1
            print(f"{job.name}: left {left[:3]}", flush=True)
        return found

    def run(self, job: Job) -> tuple[Running, int]:
        """The run that is to replace the old output, when all its processes have ended."""
        running = self.start(job)
        code = running.wait()
        running.left(10, end=True)
        return running, code

    @staticmethod
    def _must(running: Running) -> None:
        if running.wait() != 0:
            raise RuntimeError(running.printed[-2000:])


def kill(bench: Bench, job: Job, rng: random.Random) -> Counter[str]:
    """`kill -9` at any moment of the run."""
    return killed_at(bench, job, rng.uniform(0.05, 1.05)) + bench.again(job)


def killed_at(bench: Bench, job: Job, share: float) -> Counter[str]:
    """`kill -9` after this share of the time that the run takes."""
    running = bench.start(job)
    sleep(share * bench.seconds[job.name])
    running.kill()
    return bench.look(job, running)


def _signalled(number: int) -> Fault:
    def fault(bench: Bench, job: Job, rng: random.Random) -> Counter[str]:
        running = bench.start(job)
        sleep(rng.uniform(0.2, 0.9) * bench.seconds[job.name])
        running.process.send_signal(number)
        alive = running.left(1, end=True)
        found = bench.judge(job, running, running.wait())
        found["alive"] += alive > 0
        return found

    return fault


def two_at_once(bench: Bench, job: Job, rng: random.Random) -> Counter[str]:
    """Two runs of one output; the second may be refused."""
    first = bench.start(job)
    sleep(rng.uniform(0, 0.5) * bench.seconds[job.name])
    second = bench.start(job)
    ends = [(running, running.wait()) for running in (first, second)]
    failed = [pair for pair in ends if pair[1] != 0]
    found = bench.judge(job, *(failed[0] if failed else ends[0]))
    # One of them at least must have made it.
    found["lost"] += len(failed) == 2
    return found


def input_removed(bench: Bench, job: Job, rng: random.Random) -> Counter[str]:
    """What the job reads goes away in mid-run, and comes back."""
    source = bench.place.root / job.reads
    source = source if source.name == "raw" else resolve(source)
    running = bench.start(job)
    sleep(rng.uniform(0.3, 0.8) * bench.seconds[job.name])
    away = bench.place.base / "away"
    source.rename(away)
    code = running.wait()
    away.rename(source)
    return bench.judge(job, running, code)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of this size, with the folder's files, in the place of the folder."""
    kept = folder.with_name(folder.name + "-kept")
    folder.mkdir(exist_ok=True)
    restore(kept, folder)
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    try:
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        yield
    finally:
        shutil.rmtree(kept)
        restore(kept, folder)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        restore(folder, kept)
        shutil.rmtree(kept)


def disk_full(bench: Bench, job: Job, rng: random.Random) -> Counter[str]:
    """No room for staging or, in a training, checkpoints: a part of what the run needs."""
    # A version that is replaced in place needs room for both.
    needed = max(bench.kilobytes[job.name], _kilobytes(bench.place.root / job.output) // 2)
    room = int(rng.uniform(0.1, 0.9) * needed)
    with small_disk(bench.place.root, _kilobytes(bench.place.root) + room):
        running, code = bench.run(job)
    return bench.judge(job, running, code)


def shuffle_full(bench: Bench, job: Job, rng: random.Random) -> Counter[str]:
    """No room for what Spark shuffles."""
    with small_disk(bench.place.temporary, rng.randrange(16, 200)):
        running, code = bench.run(job)
    return bench.judge(job, running, code)


def read_only(bench: Bench, job: Job, rng: random.Random) -> Counter[str]:
    """Nothing may be written where the output is."""
    del rng
    with small_disk(bench.place.root, 4 * _kilobytes(bench.place.root)):
        _mount("-o", "remount,ro", str(bench.place.root))
        running, code = bench.run(job)
        _mount("-o", "remount,rw", str(bench.place.root))
    return bench.judge(job, running, code)


FAULTS: dict[str, Fault] = {
    "kill -9": kill,
    "SIGTERM": _signalled(signal.SIGTERM),
    "SIGINT": _signalled(signal.SIGINT),
    "two at once": two_at_once,
    "input removed": input_removed,
    "disk full": disk_full,
    "shuffle disk full": shuffle_full,
    "read-only": read_only,
}
MOUNTING = ("disk full", "shuffle disk full", "read-only")


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return done.returncode == 0


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _kilobytes(folder: Path) -> int:
    """The room that a folder takes on a tmpfs: whole pages of 4 KiB for the files' contents."""
    return sum(4 * -(-p.stat().st_size // 4096) for p in folder.rglob("*") if p.is_file())


def table(found: dict[tuple[str, str], Counter[str]]) -> str:
    """Counts by job and fault."""
    lines = [f"{'job':14}{'fault':19}" + "".join(f"{name:>13}" for name in COLUMNS)]
    for (job, fault), counts in found.items():
        lines.append(f"{job:14}{fault:19}" + "".join(f"{counts[name]:>13}" for name in COLUMNS))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="kills of each job")
    parser.add_argument("--others", type=int, default=3, help="of every other fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="*", choices=[job.name for job in JOBS])
    parser.add_argument("--faults", nargs="*", choices=list(FAULTS))
    parser.add_argument("--tree", type=Path, default=REPO)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    options = parser.parse_args()
    jobs = [job for job in JOBS if not options.jobs or job.name in options.jobs]
    faults = options.faults or [name for name in FAULTS if name not in MOUNTING or can_mount()]
    for name in MOUNTING:
        if name not in faults:
            print(f"{name}: not tried: it is not asked for, or needs a right to mount")
    found: dict[tuple[str, str], Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="sparkrec-faults-") as folder:
        bench = Bench(Place(options.tree.resolve(), options.python, Path(folder)), jobs)
        for job in jobs:
            for name in faults:
                # `hash` of a text differs from run to run.
                rng = random.Random(f"{options.seed} {job.name} {name}")
                counts: Counter[str] = Counter()
                for _ in range(options.kills if name == "kill -9" else options.others):
                    counts += FAULTS[name](bench, job, rng)
                    bench.reset()
                found[job.name, name] = counts
                print(table({(job.name, name): counts}).splitlines()[1], flush=True)
    print(table(found))
    bad = COLUMNS[COLUMNS.index("lost") :]
    return int(any(counts[name] for counts in found.values() for name in bad))


if __name__ == "__main__":
    sys.exit(main())

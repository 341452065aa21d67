"""`make faults KILLS=100`: disturbs jobs, and counts what became of their outputs.

A job has made an output (the old one) and is to make another (the new one) in the same place. After
each fault readers must find the old one or the new one, whole; and the job, run again, must make
the new one and leave nothing else behind. The faults of a cluster and of S3 come once each, at a
chosen moment (see `cluster_faults`).
"""

import argparse
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from time import sleep

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]

from bench import BAD, Bench, table  # noqa: E402
from cluster_bench import benches  # noqa: E402
from cluster_faults import SCENARIOS, run, why_not  # noqa: E402
from disks import can_mount, kilobytes, mount, small_disk  # noqa: E402
from fault_jobs import JOBS, Job  # noqa: E402
from layouts import resolve  # noqa: E402
from places import Place  # noqa: E402

REPO = Path(__file__).parents[2]
Fault = Callable[["Bench", Job, random.Random], Counter[str]]


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


def disk_full(bench: Bench, job: Job, rng: random.Random) -> Counter[str]:
    """No room for staging or, in a training, checkpoints: a part of what the run needs."""
    # A version that is replaced in place needs room for both.
    needed = max(bench.kilobytes[job.name], kilobytes(bench.place.root / job.output) // 2)
    room = int(rng.uniform(0.1, 0.9) * needed)
    with small_disk(bench.place.root, kilobytes(bench.place.root) + room):
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
    with small_disk(bench.place.root, 4 * kilobytes(bench.place.root)):
        mount("-o", "remount,ro", str(bench.place.root))
        running, code = bench.run(job)
        mount("-o", "remount,rw", str(bench.place.root))
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="kills of each job")
    parser.add_argument("--others", type=int, default=3, help="of every other fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="*", choices=[job.name for job in JOBS])
    parser.add_argument("--faults", nargs="*", choices=[*FAULTS, *SCENARIOS])
    parser.add_argument("--tree", type=Path, default=REPO)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    options = parser.parse_args()
    jobs = [job for job in JOBS if not options.jobs or job.name in options.jobs]
    wanted = options.faults or [*FAULTS, *SCENARIOS]
    for name in list(wanted):
        reason = why_not(name) or ("cannot mount" if name in MOUNTING and not can_mount() else None)
        if reason is not None:
            wanted.remove(name)
            print(f"{name}: not tried: {reason}")
    found: dict[tuple[str, str], Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="sparkrec-faults-") as folder:
        tree, python, base = options.tree.resolve(), options.python, Path(folder)
        if any(name in FAULTS for name in wanted):
            bench = Bench(Place(tree, python, base / "here"), jobs)
        for job, name in product(jobs, [name for name in wanted if name in FAULTS]):
            # `hash` of a text differs from run to run.
            rng = random.Random(f"{options.seed} {job.name} {name}")
            counts: Counter[str] = Counter()
            for _ in range(options.kills if name == "kill -9" else options.others):
                counts += FAULTS[name](bench, job, rng)
                bench.reset()
            found[job.name, name] = counts
            print(table({(job.name, name): counts}).splitlines()[1], flush=True)
        of_cluster = [name for name in wanted if name in SCENARIOS]
        if of_cluster:
            with benches(tree, python, base / "cluster") as on:
                for name in of_cluster:
                    rows = run(name, on)
                    found |= rows
                    print("\n".join(table(rows).splitlines()[1:]), flush=True)
    print(table(found))
    return int(any(counts[name] for counts in found.values() for name in BAD))


if __name__ == "__main__":
    sys.exit(main())

"""Jobs that have made their outputs once, and what is counted after the next run is disturbed."""

import copy
import shutil
from collections import Counter
from collections.abc import Sequence
from time import monotonic

from disks import kilobytes
from fault_jobs import JOBS, Job, write_raw
from layouts import restore
from places import Place, Running

# Columns of the table. All from `lost` on must be zero.
COLUMNS = (
    *("runs", "old whole", "new whole", "lost", "trace", "alive", "rerun fails", "leftovers"),
    *("not hit", "other end"),
)
BAD = COLUMNS[COLUMNS.index("lost") :]


class Bench:
    """Jobs that have made their outputs once, and how to disturb the next run of one of them."""

    def __init__(
        self, place: Place, jobs: Sequence[Job] = JOBS, made_in: Place | None = None
    ) -> None:
        """Run the jobs; the old outputs are made in another place if `made_in` is given."""
        self.place = place
        maker = made_in or place
        write_raw(maker.root)
        # The later jobs read what the earlier ones wrote.
        for job in JOBS[: max(JOBS.index(job) for job in jobs) + 1]:
            self._must(maker.start(job))
        self.copy = place.base / "copy"
        restore(self.copy, maker.root)
        self.reset()
        self.old = {job.name: place.content(job) for job in jobs}
        self.new: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.kilobytes: dict[str, int] = {}
        for job in jobs:
            start = monotonic()
            self._must(self.start(job))
            self.seconds[job.name] = monotonic() - start
            self.kilobytes[job.name] = kilobytes(place.root) - kilobytes(self.copy)
            self.new[job.name] = place.content(job)
            assert len(self.new[job.name]) == 64 and self.new[job.name] != self.old[job.name]
            self.reset()

    def start(self, job: Job, *sets: str) -> Running:
        """Start the run that is to replace the old output."""
        return self.place.start(job, job.change, *sets)

    def moved(self, place: Place) -> "Bench":
        """The same outputs, old and new, in another place."""
        other = copy.copy(self)
        other.place = place
        other.reset()
        return other

    def reset(self) -> None:
        """Back to the old outputs."""
        restore(self.place.root, self.copy)
        self.place.put()
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
        # A signal may come when the output is published and nothing is left to say.
        lines = (0, 1) if whole == "new whole" else (1,)
        told = code in (None, 0) or (
            "Traceback" not in printed and "\tat " not in printed and len(running.errors) in lines
        )
        found["trace"] += not told
        if not (whole and told):
            print(f"{job.name}: {content}: {printed[-600:]}", flush=True)
        return found

    def again(self, job: Job, *sets: str) -> Counter[str]:
        """Run the job to its end, and count what is amiss then."""
        again = self.start(job, *sets)
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


def table(found: dict[tuple[str, str], Counter[str]]) -> str:
    """Counts by job and fault."""
    lines = [f"{'job':14}{'fault':19}" + "".join(f"{name:>13}" for name in COLUMNS)]
    for (job, fault), counts in found.items():
        lines.append(f"{job:14}{fault:19}" + "".join(f"{counts[name]:>13}" for name in COLUMNS))
    return "\n".join(lines)

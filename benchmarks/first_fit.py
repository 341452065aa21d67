"""A session's first fit of ItemCF: CPU seconds with sparkrec sent as a zip, and without.

The workers' Python compiles the package's loops where it finds no machine code on disk, which a
package in a zip never has. Each row is a process of its own with a new session; `cpu` is user and
system time of the driver's Python and its Python workers, without the JVM's.
"""

import argparse
import os
import tempfile
from contextlib import nullcontext
from time import perf_counter
from unittest.mock import patch

import psutil
from _measure import Figures, in_child, report

from sparkrec import session
from sparkrec.baselines.item_to_item.item_cf import ItemCF
from sparkrec.datasets.synthetic import synthetic_events


def first_fit(events: int, as_zip: bool) -> Figures:
    """CPU seconds and seconds of the first fit, in a working folder without the package."""
    never = patch.object(session, "imports_the_same", return_value=False)
    with tempfile.TemporaryDirectory() as neutral, never if as_zip else nullcontext():
        os.chdir(neutral)
        spark = session.open_session("benchmark first_fit", {"ui.enabled": "false"})
        train = synthetic_events(spark, events, seed=1).cache()
        train.count()
        before, start = _cpu_seconds(), perf_counter()
        ItemCF().fit(train)
        seconds = perf_counter() - start
        cpu = _cpu_seconds() - before
        spark.stop()
        os.chdir("/")
    return {"cpu": cpu, "seconds": seconds}


def _cpu_seconds() -> float:
    """User and system time of this process and its children, those that ended included."""
    own = psutil.Process()
    processes = [own, *own.children(recursive=True)]
    times = [process.cpu_times() for process in processes if process.name() != "java"]
    # What a process has waited for: workers that have ended.
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NUMBA_CACHE_DIR"] = cache
        rows = {
            "folder, nothing compiled yet": in_child(first_fit, options.events, False),
            "zip": in_child(first_fit, options.events, True),
            "folder": in_child(first_fit, options.events, False),
        }
    report(rows, {"zip to folder: CPU": rows["zip"]["cpu"] / rows["folder"]["cpu"]})


if __name__ == "__main__":
    main()

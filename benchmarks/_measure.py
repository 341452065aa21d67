"""What the benchmarks share: seconds, memory, how a stage's work was shared, and how to report it.

Memory is resident memory, sampled ten times a second: pages that forked Python workers share count
once for each of them, so the sum over the workers errs on the high side.
"""

import json
import multiprocessing
import os
import platform
import resource
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, TypeVar

import pandas as pd
import psutil
from pyspark.sql import SparkSession

from sparkrec.session import open_session

R = TypeVar("R")
Figures = dict[str, Any]

_GB = 2**30
_LONGEST = 4


def start_session(name: str) -> tuple[SparkSession, float]:
    """A session whose status can be read afterwards, and the seconds that its start took."""
    start = perf_counter()
    # Its own port and no progress bar: the tables go to the same terminal.
    settings = {
        "spark.ui.enabled": "true",
        "spark.ui.port": "0",
        "spark.ui.retainedStages": "10000",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "4g",
    }
    spark = open_session(f"benchmark {name}", settings)
    spark.sparkContext.setLogLevel("ERROR")
    return spark, perf_counter() - start


def measure(spark: SparkSession, action: Callable[[], R]) -> tuple[R, Figures]:
    """Do something on Spark: its result, seconds, peak memory and the shares of its stages.

    The figures are `seconds`, `cpu_seconds`, `driver_gb`, `jvm_gb`, `workers_gb`, `to_driver_mb`
    (all that tasks sent to the driver) and `stages` (the longest of `stage_shares`).
    """
    known = {stage["stageId"] for stage in _stages(spark)}
    found: Figures = {}
    with peak_memory(found):
        start, cpu_start = perf_counter(), cpu_seconds()
        result = action()
        found["seconds"] = perf_counter() - start
        found["cpu_seconds"] = cpu_seconds() - cpu_start
    stages = stage_shares(spark, known)
    found["to_driver_mb"] = sum(stage["to_driver_mb"] for stage in stages)
    return result, {**found, "stages": stages[:_LONGEST]}


def cpu_seconds() -> float:
    """CPU time, user and system, of this process and all below it, those that ended too."""
    driver, total = psutil.Process(), 0.0
    for process in (driver, *driver.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])  # its own, and that of children that ended
        except psutil.NoSuchProcess:
            continue
    return total


@contextmanager
def peak_memory(found: Figures) -> Iterator[None]:
    """Note the largest resident memory, in GB, of the driver, the JVM and the Python workers."""
    stop = threading.Event()
    driver = psutil.Process()

    def sample() -> None:
        while not stop.wait(0.1):
            sizes = {"driver_gb": driver.memory_info().rss, "jvm_gb": 0, "workers_gb": 0}
            for child in driver.children(recursive=True):
                try:
                    kind = "jvm_gb" if child.name() == "java" else "workers_gb"
                    sizes[kind] += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            for kind, size in sizes.items():
                found[kind] = max(found.get(kind, 0.0), size / _GB)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield
    finally:
        stop.set()
        sampler.join()


def stage_shares(spark: SparkSession, known: set[int]) -> list[Figures]:
    """How stages were shared among tasks, the longest first, from Spark's REST interface.

    Returns
    -------
    list of dict
        For each of the stages that `known` lacks: `stage`, `tasks`, `seconds` (of all its tasks),
        `largest_share` (of these seconds, of one task), `most_records` (that one task read) and
        `to_driver_mb`.
    """
    rows = []
    for stage in _stages(spark):
        if stage["stageId"] in known or stage["status"] != "COMPLETE":
            continue
        place = f"stages/{stage['stageId']}/{stage['attemptId']}/taskList?length=100000"
        metrics = [task["taskMetrics"] for task in _ask(spark, place) if "taskMetrics" in task]
        seconds = [task["executorRunTime"] / 1000 for task in metrics]
        records = [
            task["inputMetrics"]["recordsRead"] + task["shuffleReadMetrics"]["recordsRead"]
            for task in metrics
        ]
        rows.append(
            {
                "stage": stage["stageId"],
                "tasks": len(metrics),
                "seconds": sum(seconds),
                "largest_share": max(seconds) / max(sum(seconds), 1e-9),
                "most_records": max(records),
                "to_driver_mb": sum(task["resultSize"] for task in metrics) / 2**20,
            }
        )
    return sorted(rows, key=lambda row: -row["seconds"])


def _stages(spark: SparkSession) -> list[Figures]:
    """All stages of the session, once none is active and the listeners have caught up."""
    while True:
        time.sleep(0.5)
        stages = _ask(spark, "stages")
        if all(stage["status"] not in ("ACTIVE", "PENDING") for stage in stages):
            return stages


def _ask(spark: SparkSession, place: str) -> list[Figures]:
    context = spark.sparkContext
    address = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/{place}"
    with urllib.request.urlopen(address, timeout=60) as answer:
        return json.load(answer)


def in_child(function: Callable[..., Figures], *arguments: Any) -> Figures:
    """Run a reference in a process of its own: its figures, and `driver_gb`, its peak memory."""
    # Libraries with threads of their own warn of, and suffer from, BLAS having some too.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_peak, (function, *arguments))


def _with_peak(function: Callable[..., Figures], *arguments: Any) -> Figures:
    found = function(*arguments)
    return {**found, "driver_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def least_cpu(action: Callable[[], R], repeats: int) -> tuple[R, float]:
    """The result and the CPU seconds (user and system, all threads) of the cheapest of several."""
    seconds = []
    for _ in range(repeats):
        start = process_time()
        result = action()
        seconds.append(process_time() - start)
    return result, min(seconds)


def fastest(action: Callable[[], R], repeats: int) -> tuple[R, float]:
    """The result and the seconds of the fastest of several runs."""
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        result = action()
        seconds.append(perf_counter() - start)
    return result, min(seconds)


def machine() -> str:
    """One line on what the figures were measured."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    memory = psutil.virtual_memory().total / _GB
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GB, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, Spark {version('pyspark')}"
    )


def report(rows: Mapping[str, Figures], ratios: Mapping[str, float] | None = None) -> None:
    """Print the machine, a table of the figures, the stages of each row, the ratios, and JSON."""
    ratios = ratios or {}
    print(machine())
    numbers = {
        name: {key: value for key, value in row.items() if key != "stages"}
        for name, row in rows.items()
    }
    print(pd.DataFrame(numbers).T.to_string(float_format=lambda value: f"{value:,.3f}", na_rep=""))
    for name, row in rows.items():
        for stage in row.get("stages", []):
            print(
                f"{name}: stage {stage['stage']}: {stage['tasks']} tasks, "
                f"{stage['seconds']:.1f} s, the largest {stage['largest_share']:.0%} of them and "
                f"{stage['most_records']:,} records, {stage['to_driver_mb']:.1f} MB to the driver"
            )
    for name, value in ratios.items():
        print(f"{name:40s} {value:10.3f}")
    print(json.dumps({"machine": machine(), "rows": rows, "ratios": ratios}))

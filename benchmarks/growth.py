"""How seconds and memory of ItemCF, Swing and ALS grow with the data, each with its defaults.

Synthetic events (users = events / 100, 20,000 items, Zipf exponent 1, every item with a few likely
successors) are written to parquet once; timed is the fit from there to the model. Every method has
a process of its own for all sizes, smallest first, in which session start and a small fit stand
apart; each time is the least of `--repeats`, so that the smallest size is not the one that pays for
a cold JVM. Draws `docs/growth.png`.
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from _measure import Figures, fastest, measure, report, start_session

from sparkrec.datasets.synthetic import Shape, synthetic_events
from sparkrec.retrieval.base import Retriever

METHODS = {
    "ItemCF": "sparkrec.baselines.item_to_item.item_cf",
    "Swing": "sparkrec.baselines.item_to_item.swing",
    "ALS": "sparkrec.baselines.als.als",
}
PICTURE = Path(__file__).parents[1] / "docs" / "growth.png"


def write_events(folder: Path, sizes: list[int], shape: Shape | None = None) -> list[str]:
    """Write events of each size below a folder; returns the paths."""
    spark, _ = start_session("growth")
    paths = [str(folder / str(size)) for size in sizes]
    for size, path in zip(sizes, paths, strict=True):
        synthetic_events(spark, size, seed=1, shape=shape).write.parquet(path)
    spark.stop()
    return paths


def fit_in_child(
    method: str, paths: list[str], repeats: int, timeout: float | None = None
) -> list[Figures]:
    """The figures of a method's fit on each table, from a process of its own.

    Raises
    ------
    subprocess.TimeoutExpired, subprocess.CalledProcessError
        It took longer than `timeout` seconds, or failed.
    """
    command = [sys.executable, __file__, "--repeats", str(repeats), "--fit", method, *paths]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=timeout, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def fit(method: str, paths: list[str], repeats: int) -> list[Figures]:
    """The figures of a method's fastest fit on each table, after a small fit."""
    spark, started = start_session(f"growth {method}")

    def estimator() -> Retriever:
        return getattr(importlib.import_module(METHODS[method]), method)()

    small = synthetic_events(spark, 20_000).persist()
    _, warmed = fastest(lambda: estimator().fit(small), 1)
    found = []
    for path in paths:
        train = spark.read.parquet(path)
        runs = [measure(spark, partial(estimator().fit, train))[1] for _ in range(repeats)]
        figures = min(runs, key=lambda run: run["seconds"])
        found.append({"session_seconds": started, "warm_up_seconds": warmed, **figures})
    spark.stop()
    return found


def draw(found: dict[str, list[Figures]], sizes: list[int], path: Path) -> None:
    """Seconds and peak memory by the number of events, one colour a method."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (seconds, memory) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for colour, (method, rows) in enumerate(found.items()):
        for plot, key, style in (
            (seconds, "seconds", "-"),
            (memory, "workers_gb", "-"),
            (memory, "jvm_gb", ":"),
        ):
            values = [row[key] for row in rows]
            plot.plot(sizes, values, f"o{style}C{colour}", label=method)
    labels = [f"{size / 1e6:g}M" for size in sizes]
    for plot in (seconds, memory):
        plot.set(xscale="log", xlabel="events")
        plot.set_xticks(sizes, labels)
        plot.minorticks_off()
        plot.grid(alpha=0.3)
    seconds.set(yscale="log", ylabel="fit, seconds")
    seconds.legend()
    memory.set(ylabel="peak GB: Python workers (line), JVM (dots)", ylim=(0, None))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the machine, a table, and the same as JSON, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--fit", nargs="+", metavar=("METHOD", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        print(json.dumps(fit(options.fit[0], options.fit[1:], options.repeats)))
        return
    sizes = sorted(options.events)
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_events(Path(scratch), sizes)
        found = {method: fit_in_child(method, paths, options.repeats) for method in options.methods}
    rows = {
        f"{method}, {size:,} events": figures
        for method, all_figures in found.items()
        for size, figures in zip(sizes, all_figures, strict=True)
    }
    name = f"{sizes[-1]:,} events to {sizes[0]:,}"
    ratios = {
        f"{method}: {name}": figures[-1]["seconds"] / figures[0]["seconds"]
        for method, figures in found.items()
    }
    report(rows, ratios)
    draw(found, sizes, options.picture)


if __name__ == "__main__":
    main()

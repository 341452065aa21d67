"""One user with 200,000 events, and one item that every user has: does any method stall?

Each method, with its defaults, is fitted in a process of its own on synthetic events with and
without the two; after `--timeout` seconds it is stopped and counts as stalled, and the exit code is
1. Timed is the fit from parquet to the model, the least of `--repeats`; session start and a small
fit stand apart, but count towards the timeout, as every repeat does.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from _measure import Figures, report
from growth import METHODS, fit_in_child, write_events

from sparkrec.datasets.synthetic import Shape


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--heavy-user-events", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds of a method")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    rows: dict[str, Figures] = {}
    stalled = []
    with tempfile.TemporaryDirectory() as scratch:
        heavy = Shape(heavy_user_events=options.heavy_user_events, common_item=True)
        paths = []
        for name, shape in (("plain", Shape()), ("heavy", heavy)):
            paths += write_events(Path(scratch) / name, [options.events], shape)
        for method in options.methods:
            try:
                plain, extreme = fit_in_child(method, paths, options.repeats, options.timeout)
            except subprocess.TimeoutExpired:
                stalled.append(method)
                continue
            rows |= {f"{method}, plain": plain, f"{method}, heavy": extreme}
    done = [method for method in options.methods if method not in stalled]
    ratios = {
        f"{method}: heavy to plain": rows[f"{method}, heavy"]["seconds"]
        / rows[f"{method}, plain"]["seconds"]
        for method in done
    }
    report(rows, ratios)
    if stalled:
        sys.exit(f"stalled: {', '.join(stalled)} took longer than {options.timeout:.0f} s")


if __name__ == "__main__":
    main()

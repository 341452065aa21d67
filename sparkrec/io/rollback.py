"""Goes back to an earlier version of an output.

``python -m sparkrec.io.rollback PATH`` makes the version before the current one current again;
``--to RUN_ID`` names another one, and ``--list`` only lists them. Nothing is removed; `keep_runs`
of a conf says how many versions are kept.
"""

import argparse
import sys

from sparkrec.errors import StorageError
from sparkrec.io.outputs import current_run, open_output, runs
from sparkrec.io.publishing import point_to
from sparkrec.io.storage import join


def rollback(path: str, to: str | None = None) -> str:
    """Make an earlier version of an output the current one; returns its run id.

    Parameters
    ----------
    to
        The run id; by default that of the version before the current one.

    Raises
    ------
    StorageError
        There is no such version, its files are not all there, or the output is being written.
    """
    finished = runs(path)
    if not finished:
        raise StorageError(f"{path} has no finished run")
    if to is None:
        current = current_run(path)
        earlier = [run for run in finished if current is not None and run < current]
        if not earlier:
            raise StorageError(
                f"{path} has no run before {current}; its runs are {', '.join(finished)}"
            )
        to = earlier[-1]
    if to not in finished:
        raise StorageError(f"{path} has no finished run {to}; its runs are {', '.join(finished)}")
    open_output(join(path, to))
    point_to(path, to)
    return to


def describe(path: str) -> str:
    """A line a finished version of an output, oldest first; the current one is marked."""
    try:
        current = current_run(path)
    except StorageError:  # damaged, which a rollback mends
        current = None
    lines = []
    for run in runs(path):
        made_by = open_output(join(path, run)).manifest.get("made_by", "")
        lines.append(f"{'*' if run == current else ' '} {run}  {made_by}")
    if not lines:
        raise StorageError(f"{path} has no finished run")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sparkrec.io.rollback", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("path", metavar="PATH", help="an output: the output_path of a conf")
    parser.add_argument("--to", metavar="RUN_ID", help="the run to go to")
    parser.add_argument("--list", action="store_true", help="only list the runs")
    options = parser.parse_args()
    try:
        if options.list:
            print(describe(options.path))
        else:
            print(f"{options.path} is now run {rollback(options.path, options.to)}")
    except StorageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

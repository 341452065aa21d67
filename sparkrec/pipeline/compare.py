"""Compares the models of finished runs, paired (see `evaluation.compare`).

``python -m sparkrec.pipeline.compare RUN [RUN ...] --against RUN [RUN ...]`` takes run folders; the
runs of a side are those of one model with several seeds, and are averaged. A yardstick of a run is
named behind a colon: ``runs/ssr_cold_ml_1m:content_knn``. All runs must have answered the same test
rows under the same protocol. The bootstrap replicates of a run are in its `replicates.parquet`, so
nothing is computed again.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sparkrec.errors import DataError, SparkrecError, StorageError
from sparkrec.evaluation.compare import Difference, compare
from sparkrec.evaluation.metrics import Evaluation
from sparkrec.io import storage
from sparkrec.io.arrow import read_parquet, write_parquet
from sparkrec.io.outputs import open_output
from sparkrec.pipeline.report import Result

REPLICATES = "replicates.parquet"
# What two runs must have in common, besides the tables that are answered.
_SETTINGS = ("protocol", "rating_above", "target")
_TABLES = ("test", "cold_items")


@dataclass(frozen=True)
class Comparison:
    """Two models, evaluated in the same way.

    Attributes
    ----------
    first, second
        Their names.
    exclude_seen
        Whether items of the history were kept out of the recommendations of both.
    differences
        By the name of the metric, see `evaluation.compare.compare`.
    """

    first: str
    second: str
    exclude_seen: bool
    differences: Mapping[str, Difference]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: `model`, `against`, `exclude_seen` and `differences` by metric."""
        differences = {
            name: {"difference": found.difference, "interval95": list(found.interval95)}
            for name, found in self.differences.items()
        }
        return {
            "model": self.first,
            "against": self.second,
            "exclude_seen": self.exclude_seen,
            "differences": differences,
        }

    def __str__(self) -> str:
        """A table of the metrics at 20, a line each: both values, the difference, its interval."""
        seen = "excluded" if self.exclude_seen else "kept"
        lines = [f"{self.first} - {self.second}, seen {seen}, paired [95%]"]
        for name, found in self.differences.items():
            if name.partition(", ")[0] in ("recall@20", "ndcg@20", "mrr@20"):
                low, high = found.interval95
                lines.append(
                    f"  {name:36}{found.first:.4f} - {found.second:.4f} = {found.difference:+.4f} "
                    f"[{low:+.4f}, {high:+.4f}]"
                )
        return "\n".join(lines)


def with_yardsticks(results: Sequence[Result], model: str) -> list[Comparison]:
    """Compare a run's own model with every yardstick that was evaluated beside it."""
    return [
        Comparison(
            model,
            other.model,
            own.exclude_seen,
            compare([own.evaluation], [other.evaluation]),
        )
        for own in results
        for other in results
        if own.model == model != other.model and own.exclude_seen == other.exclude_seen
    ]


def write_replicates(folder: str, results: Sequence[Result]) -> None:
    """Write the bootstrap replicates of all results of a run into its folder."""
    rows = [
        {
            "model": result.model,
            "exclude_seen": result.exclude_seen,
            "group": group,
            "metric": metric,
            "values": values,
        }
        for result in results
        for group, part in ({"": result.evaluation} | result.groups).items()
        for metric, values in part.replicates.items()
    ]
    kind = pa.schema(
        [
            ("model", pa.string()),
            ("exclude_seen", pa.bool_()),
            ("group", pa.string()),
            ("metric", pa.string()),
            ("values", pa.list_(pa.float64())),
        ]
    )
    write_parquet(storage.join(folder, REPLICATES), pa.Table.from_pylist(rows, kind))


@dataclass(frozen=True)
class _FinishedRun:
    """The results of a run, with their replicates, and what makes runs comparable."""

    path: str
    results: list[Result]
    made_from: dict[str, Any]

    @classmethod
    def read(cls, path: str) -> "_FinishedRun":
        output = open_output(path)
        metrics = storage.read_json(output.path("metrics.json"))
        if not storage.is_file(output.path(REPLICATES)):
            raise StorageError(f"{path} has no {REPLICATES}; run its job again")
        table = read_parquet(output.path(REPLICATES))
        keys = zip(*(table.column(i).to_pylist() for i in range(4)), strict=True)
        values = [np.asarray(row.values) for row in table.column("values")]
        replicates: dict[tuple[str, bool, str], dict[str, Any]] = {}
        for (model, seen, group, metric), found in zip(keys, values, strict=True):
            replicates.setdefault((model, seen, group), {})[metric] = found
        results = []
        for entry in metrics["results"]:
            result = Result.from_json(entry)
            for group, part in ({"": result} | result.groups).items():
                key = result.model, result.exclude_seen, group
                part.replicates.update(replicates.get(key, {}))
            results.append(result)
        settings = metrics["config"]["evaluation"]
        made_from = {f"evaluation.{name}": settings.get(name) for name in _SETTINGS}
        made_from |= {f"input.{name}": metrics["data"].get(name) for name in _TABLES}
        return cls(path, results, made_from)

    def of(self, model: str) -> dict[bool, Evaluation]:
        """The evaluations of a model, by `exclude_seen`."""
        found = {r.exclude_seen: r.evaluation for r in self.results if r.model == model}
        if not found:
            known = ", ".join(sorted({result.model for result in self.results})) or "none"
            raise DataError(f"{self.path} has no results of `{model}`; it has those of {known}")
        return found


def compare_runs(first: Sequence[str], second: Sequence[str]) -> list[Comparison]:
    """Compare the models of two lists of run folders, local or on S3.

    Parameters
    ----------
    first, second
        Folders, each optionally with `:` and the name of a yardstick of the run.

    Returns
    -------
    list
        Seen kept, then seen excluded, as far as all runs have both.

    Raises
    ------
    StorageError
        A folder is no finished run, or one of a version without replicates.
    DataError
        The runs answered other rows or under another protocol, or lack the model that is named.
    """
    sides = [[_read(path) for path in paths] for paths in (first, second)]
    one = sides[0][0][0]
    for run, _ in (*sides[0], *sides[1]):
        for key, value in one.made_from.items():
            if run.made_from[key] != value:
                raise DataError(
                    f"{one.path} and {run.path} cannot be compared: {key} of the one is {value}, "
                    f"of the other {run.made_from[key]}"
                )
    evaluations = [[run.of(model) for run, model in side] for side in sides]
    names = [_name(side) for side in sides]
    return [
        Comparison(
            names[0],
            names[1],
            seen,
            compare(*([found[seen] for found in side] for side in evaluations)),
        )
        for seen in (False, True)
        if all(seen in found for side in evaluations for found in side)
    ]


def _read(path: str) -> tuple[_FinishedRun, str]:
    folder, colon, model = path.rpartition(":")
    if not colon or "/" in model:
        folder, model = path, ""
    run = _FinishedRun.read(folder)
    if not run.results:
        raise DataError(f"{folder} has no results; its conf has mode: [train]")
    return run, model or run.results[0].model


def _name(side: Sequence[tuple[_FinishedRun, str]]) -> str:
    run, model = side[0]
    name = f"{model} of {storage.name_of(run.path)}"
    return name if len(side) == 1 else f"{name} and {len(side) - 1} more"


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; see the docstring of this module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", help="run folders of the first model, one a seed")
    parser.add_argument("--against", nargs="+", required=True, help="those of the second")
    options = parser.parse_args(argv)
    try:
        print("\n\n".join(map(str, compare_runs(options.runs, options.against))))
    except SparkrecError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""What a run reports: `metrics.json`, and a table for the terminal."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import sparkrec
from sparkrec.errors import ConfigError
from sparkrec.evaluation.metrics import Doubles, Evaluation
from sparkrec.evaluation.protocols import protocol
from sparkrec.pipeline.code import code_fingerprint, commit

_LIBRARIES = ("pyspark", "pyarrow", "numpy", "torch", "petastorm", "faiss-cpu", "faiss-gpu")


@dataclass(frozen=True)
class Result:
    """One evaluation of one model: an entry of `results` in `metrics.json`.

    Attributes
    ----------
    model
        What made the recommendations; a yardstick in another model's run has its own name here.
    protocol
        Name of the evaluation protocol.
    exclude_seen
        Whether items of the query's history were kept out of its recommendations.
    n, metrics, interval95, groups, replicates
        See `Evaluation`; the replicates are not in `metrics.json`.
    """

    model: str
    protocol: str
    exclude_seen: bool
    n: int
    metrics: dict[str, float]
    interval95: dict[str, tuple[float, float]]
    groups: dict[str, Evaluation] = field(default_factory=dict)
    replicates: dict[str, Doubles] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, evaluation: Evaluation, model: str, protocol: str, exclude_seen: bool) -> "Result":
        """Name the model, protocol and treatment of seen items of an evaluation."""
        return cls(model, protocol, exclude_seen, **vars(evaluation))

    @property
    def evaluation(self) -> Evaluation:
        """The evaluation without the names."""
        return Evaluation(self.n, self.metrics, self.interval95, self.groups, self.replicates)

    @property
    def parts(self) -> "dict[str, Result]":
        """The results of the groups, each as a result of its own."""
        return {
            name: Result.of(part, self.model, self.protocol, self.exclude_seen)
            for name, part in self.groups.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; intervals become lists [low, high]."""
        return {
            "model": self.model,
            "protocol": self.protocol,
            "exclude_seen": self.exclude_seen,
            **_figures(self),
            "groups": {name: _figures(part) for name, part in self.groups.items()},
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Result":
        """The inverse of `to_json`."""
        groups = entry["groups"]
        return cls(
            entry["model"],
            entry["protocol"],
            entry["exclude_seen"],
            **vars(_evaluation(entry)) | {"groups": {g: _evaluation(groups[g]) for g in groups}},
        )


def _figures(found: Evaluation | Result) -> dict[str, Any]:
    return {
        "n": found.n,
        "metrics": dict(found.metrics),
        "interval95": {name: list(interval) for name, interval in found.interval95.items()},
    }


def _evaluation(entry: Mapping[str, Any]) -> Evaluation:
    intervals = {name: (low, high) for name, (low, high) in entry["interval95"].items()}
    return Evaluation(entry["n"], dict(entry["metrics"]), intervals)


def versions(trained: type[Any] | None = None) -> dict[str, str]:
    """Versions of sparkrec, Python and the installed libraries, none of which is imported.

    `code` is a hash of the running job's sources, `commit` that of the git checkout where it runs
    from one.
    """
    found = {"sparkrec": sparkrec.__version__, "code": code_fingerprint(model=trained)}
    checkout = commit()
    if checkout is not None:
        found["commit"] = checkout
    found["python"] = platform.python_version()
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def metrics_json(
    *,
    model: str,
    trained: type[Any],
    dataset: str,
    config: Mapping[str, Any],
    seed: int,
    data: Any,
    seconds: Mapping[str, float],
    results: Sequence[Result],
    differences: Sequence[Mapping[str, Any]] = (),
    diverged: bool | None = None,
) -> dict[str, Any]:
    """The contents of a run's `metrics.json`.

    Parameters
    ----------
    model, dataset
        Their names.
    trained
        The class that was trained.
    config
        The whole config as it was used.
    seed
        The run's seed.
    data
        Fingerprint of the data, any JSON value.
    seconds
        Wall time of `fit`, `index`, `recommend` and `evaluate`; parts a run lacks are absent.
    results
        One a protocol, treatment of seen items, and model.
    differences
        The model against each yardstick, as `pipeline.compare.Comparison.to_json` gives it.
    diverged
        Whether the training diverged, and the model is that of an earlier epoch; None, and absent,
        for a count model.
    """
    return {
        "model": model,
        "dataset": dataset,
        "config": dict(config),
        "seed": seed,
        "versions": versions(trained),
        "data": data,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        **({} if diverged is None else {"diverged": diverged}),
        "results": [result.to_json() for result in results],
        "differences": list(differences),
    }


def format_table(results: Sequence[Result], ks: Sequence[int] = (20,)) -> str:
    """A plain text table for a terminal, a line a result, with each protocol explained below it.

    A metric that a result lacks is shown as `-`; recall is followed by its 95% interval. The groups
    of a result, such as the queries with and without a history, follow it, a line each.
    """
    header = ["model", "protocol", "seen", "n"]
    for k in ks:
        header += [f"precision@{k}", f"recall@{k} [95%]", f"map@{k}", f"ndcg@{k}", f"mrr@{k}"]
        header += [f"coverage@{k}"] if _any_has(results, f"coverage@{k}") else []
    lines = [header]
    shown = [
        (name, part) for result in results for name, part in ({"": result} | result.parts).items()
    ]
    for group, result in shown:
        seen = ", ".join(filter(None, (_seen(result), group)))
        line = [result.model, result.protocol, seen, f"{result.n:,}"]
        line += [_cell(result, name.removesuffix(" [95%]"), "[95%]" in name) for name in header[4:]]
        lines.append(line)
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    table = [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join(table + _explanations(result.protocol for result in results))


def _any_has(results: Iterable[Result], metric: str) -> bool:
    return any(metric in result.metrics for result in results)


def _seen(result: Result) -> str:
    return "excluded" if result.exclude_seen else "kept"


def _cell(result: Result, metric: str, interval: bool) -> str:
    if metric not in result.metrics:
        return "-"
    value = f"{result.metrics[metric]:.4f}"
    if interval and metric in result.interval95:
        low, high = result.interval95[metric]
        return f"{value} [{low:.4f}, {high:.4f}]"
    return value


def _explanations(names: Iterable[str]) -> list[str]:
    lines = []
    for name in dict.fromkeys(names):
        try:
            lines.append(f"{name}: {protocol(name).description}")
        except ConfigError:  # a caller's own protocol: its name is all there is
            continue
    return lines

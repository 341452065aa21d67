"""Every result of this repository as a row of text: what `docs/results.csv` holds.

A row has `dataset`, `conf`, `model`, `protocol`, `seen` (kept or excluded), `queries` (all, or a
group of them: with a history and without, or the groups of `cold_items`), `n`, `fit_seconds`,
`commit` (that the result was made by), and for each metric its value and the ends of its 95%
interval, `recall@20`, `recall@20 low` and `recall@20 high`. What a row lacks is empty.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparkrec.evaluation.protocols import COLD_ITEMS
from sparkrec.pipeline.report import Result

Row = Mapping[str, str]

ALL = "all"

_ABOUT = ("dataset", "conf", "model", "protocol", "seen", "queries", "n", "fit_seconds", "commit")
_NAMES = (
    *("precision", "recall", "f1", "hit", "map", "mrr", "ndcg"),
    *("coverage", "popularity", "cold_share"),
)
# Yardsticks have runs of their own under the other protocols.
_WITH_YARDSTICKS = ("next_basket", COLD_ITEMS)


def rows_of(conf: str, run: Mapping[str, Any]) -> list[Row]:
    """The rows of a run, from the contents of its `metrics.json`.

    A yardstick, a result of another model than the run's own, has no `fit_seconds`. It gets a row
    for baskets and cold items alone: elsewhere it has a run of its own.
    """
    rows: list[Row] = []
    for result in map(Result.from_json, run["results"]):
        own = result.model == run["model"]
        if not own and result.protocol not in _WITH_YARDSTICKS:
            continue
        fit = run["seconds"].get("fit") if own else None
        for queries, part in ({ALL: result} | result.parts).items():
            row = {
                "dataset": run["dataset"],
                "conf": conf,
                "model": part.model,
                "protocol": part.protocol,
                "seen": "excluded" if part.exclude_seen else "kept",
                "queries": queries,
                "n": str(part.n),
                "fit_seconds": "" if fit is None else f"{fit:.1f}",
                "commit": run["versions"].get("commit", ""),
            }
            row |= {name: str(value) for name, value in part.metrics.items()}
            for name, (low, high) in part.interval95.items():
                row |= {f"{name} low": str(low), f"{name} high": str(high)}
            rows.append(row)
    return rows


def merge(old: Iterable[Row], new: Sequence[Row]) -> list[Row]:
    """The old rows, those of the new rows' confs replaced, in the order of the confs."""
    replaced = {row["conf"] for row in new}
    kept = [row for row in old if row["conf"] not in replaced]
    return sorted([*kept, *new], key=lambda row: row["conf"])


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV, its columns in a fixed order."""
    metrics = {key for row in rows for key, value in row.items() if value} - set(_ABOUT)
    text = io.StringIO()
    columns = [*_ABOUT, *sorted(metrics, key=_place)]
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def _place(column: str) -> tuple[int, str, int, str]:
    """By metric, then by k, then its value before its interval."""
    metric, _, end = column.partition(" ")
    name, _, k = metric.partition("@")
    known = _NAMES.index(name) if name in _NAMES else len(_NAMES)
    return known, name, int(k or 0), {"": "", "low": "1", "high": "2"}[end]

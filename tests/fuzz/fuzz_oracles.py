"""What answers should be, computed another way."""

import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from layouts import read_table, resolve

Lists = dict[Any, list[tuple[Any, float]]]
NEAR = 1e-5


def sound_run(output: Path) -> str | None:
    """Why a finished run cannot be right, or None: metrics outside [0, 1], or nobody answered."""
    metrics = json.loads((resolve(output) / "metrics.json").read_text(encoding="utf-8"))
    for result in metrics["results"]:
        for name, value in result["metrics"].items():
            bounded = not name.startswith("popularity") and "popularity" not in name
            if not math.isfinite(value) or value < 0 or (bounded and value > 1 + 1e-9):
                return f"{name} is {value}"
    lists = output / "recommendations" / "seen_kept"
    if resolve(lists).is_dir():
        answers = recommended(lists, "query_id")
        if not any(answers.values()):
            return "nobody is recommended anything"
        if any(not math.isfinite(score) for row in answers.values() for _, score in row):
            return "a score is no number"
        if any(len({i for i, _ in row}) < len(row) for row in answers.values()):
            return "an item is recommended twice"
    return None


def recommended(path: Path, key: str) -> Lists:
    """The lists of a table of recommendations, by key."""
    return {
        row[key]: [(entry["item_id"], entry["score"]) for entry in row["recommended"]]
        for row in read_table(path).to_pylist()
    }


def same_lists(found: Lists, wanted: Lists) -> bool:
    """The same scores, and the same items but for near ties."""
    if found.keys() != wanted.keys():
        return False
    for key, ranked in wanted.items():
        if len(found[key]) != len(ranked):
            return False
        for (item, score), (other, expected) in zip(found[key], ranked, strict=True):
            if not math.isclose(score, expected, rel_tol=NEAR, abs_tol=NEAR):
                return False
            ties = [s for _, s in ranked if math.isclose(s, expected, rel_tol=NEAR, abs_tol=NEAR)]
            if item != other and len(ties) == 1 and (other, expected) != ranked[-1]:
                return False
    return True


def good_events(rows: list[dict[str, Any]]) -> set[tuple[str, str, int]]:
    """The events that remain of raw rows: with user, item and time, equal ones once."""

    def missing(value: Any) -> bool:
        return value is None or (isinstance(value, str) and not value.strip(" "))

    return {
        (str(row["user"]), str(row["item"]), row["when"])
        for row in rows
        if not missing(row["user"]) and not missing(row["item"]) and row["when"] is not None
    }


def written_events(table: pa.Table) -> list[tuple[str, str, int]]:
    """The events of a prepared table."""
    return [
        (str(row["user_id"]), str(row["item_id"]), row["timestamp"]) for row in table.to_pylist()
    ]


def global_hot(train: pa.Table, queries: pa.Table, k: int) -> Lists:
    """The most frequent items of train, ties by id, and their counts, for every query."""
    counts = Counter(train["item_id"].to_pylist())
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], _order(pair[0])))[:k]
    return {query: [(i, float(n)) for i, n in ranked] for query in queries["query_id"].to_pylist()}


def item_cf(train: pa.Table, queries: pa.Table, k: int) -> Lists:
    """Neighbours of the last known item of the history, by user-weighted cosine.

    Popular items follow them, with minus their rank as the score.
    """
    counts = Counter(train["item_id"].to_pylist())
    popular = sorted(counts, key=lambda item: (-counts[item], _order(item)))
    items_of: dict[Any, set[Any]] = defaultdict(set)
    for row in train.to_pylist():
        items_of[row["user_id"]].add(row["item_id"])
    together: dict[tuple[Any, Any], float] = defaultdict(float)
    weight: dict[Any, float] = defaultdict(float)
    for items in items_of.values():
        for one in items:
            weight[one] += 1 / len(items)
            for other in items - {one}:
                together[one, other] += 1 / len(items)
    found: Lists = {}
    for row in queries.to_pylist():
        known = [item for item in row["history"] or [] if item in weight]
        scores = [
            (j, c / math.sqrt(weight[i] * weight[j]))
            for (i, j), c in together.items()
            if known and i == known[-1]
        ]
        ranked = sorted(scores, key=lambda p: (-p[1], _order(p[0])))
        near = {item for item, _ in ranked}
        rest = [(i, -float(n)) for n, i in enumerate(popular, start=1) if i not in near]
        found[row["query_id"]] = [*ranked, *rest][:k]
    return found


def _order(value: Any) -> Any:
    """Spark orders text by its bytes."""
    return value.encode() if isinstance(value, str) else value

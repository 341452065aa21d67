"""metrics.json and the terminal's table."""

import json
import subprocess
import sys

import pytest

from sparkrec.baselines.popularity.global_hot import GlobalHot
from sparkrec.evaluation.metrics import Evaluation
from sparkrec.pipeline import report
from sparkrec.pipeline.report import (
    Result,
    format_table,
    metrics_json,
    versions,
)

METRICS = {
    "precision@20": 0.01508,
    "recall@20": 0.3016,
    "map@20": 0.0801,
    "ndcg@20": 0.1261,
    "mrr@20": 0.0801,
    "coverage@20": 0.71,
    "popularity@20": 1024.6,
}
INTERVALS = {"recall@20": (0.294, 0.31), "ndcg@20": (0.122, 0.13)}
EVALUATION = Evaluation(14980, METRICS, INTERVALS)
KEPT = Result.of(EVALUATION, "dssm", "last_3", False)
EXCLUDED = Result.of(EVALUATION, "dssm", "last_3", True)
YARDSTICK = Result("global_hot", "mine", False, 3, {"recall@20": 0.5}, {})


def run() -> dict:
    return metrics_json(
        model="dssm",
        trained=GlobalHot,
        dataset="ml_1m",
        config={"seed": 1},
        seed=1,
        data="abc",
        seconds={"fit": 1234.56789},
        results=[KEPT, EXCLUDED, YARDSTICK],
    )


def test_metrics_json_has_the_contract_and_survives_json() -> None:
    written = json.loads(json.dumps(run(), allow_nan=False))
    assert list(written) == [
        "model",
        "dataset",
        "config",
        "seed",
        "versions",
        "data",
        "seconds",
        "results",
        "differences",
    ]
    assert written["seconds"] == {"fit": 1234.568}
    network = metrics_json(
        model="dssm",
        trained=GlobalHot,
        dataset="d",
        config={},
        seed=1,
        data="",
        seconds={},
        results=[],
        diverged=True,
    )
    assert network["diverged"] is True
    assert written["results"][0]["interval95"]["recall@20"] == [0.294, 0.31]
    assert [Result.from_json(entry) for entry in written["results"]] == [KEPT, EXCLUDED, YARDSTICK]


def test_versions_name_what_is_installed_and_import_nothing() -> None:
    found = versions()
    assert {"sparkrec", "python", "pyspark", "numpy", "pyarrow"} <= set(found)
    script = (
        "import sys; from sparkrec.pipeline.report import versions; versions();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'petastorm', 'faiss')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_versions_have_the_commit_of_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "commit", lambda: "abc1234-dirty")
    assert versions()["commit"] == "abc1234-dirty"
    monkeypatch.setattr(report, "commit", lambda: None)
    assert "commit" not in versions()


def test_table() -> None:
    assert format_table([KEPT, EXCLUDED, YARDSTICK]).splitlines() == [
        "model       protocol  seen           n  precision@20          recall@20 [95%]  map@20"
        "  ndcg@20  mrr@20  coverage@20",
        "----------  --------  --------  ------  ------------  -----------------------  ------"
        "  -------  ------  -----------",
        "dssm        last_3    kept      14,980        0.0151  0.3016 [0.2940, 0.3100]  0.0801"
        "   0.1261  0.0801       0.7100",
        "dssm        last_3    excluded  14,980        0.0151  0.3016 [0.2940, 0.3100]  0.0801"
        "   0.1261  0.0801       0.7100",
        "global_hot  mine      kept           3             -                   0.5000       -"
        "        -       -            -",
        "last_3: each user's last three events are queried one by one with the history just "
        "before them; a row counts if its rating is above 2; candidates are the items of train, "
        "and a test item outside them is a miss.",
    ]


def test_queries_without_a_history_have_lines_of_their_own() -> None:
    groups = {
        "with history": Evaluation(3, {"recall@20": 0.5}, {"recall@20": (0.4, 0.6)}),
        "without history": Evaluation(1, {"recall@20": 0.1}, {}),
    }
    result = Result.of(Evaluation(4, {"recall@20": 0.4}, {}, groups), "als", "temporal", True)
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result
    lines = [line.split("  ") for line in format_table([result]).splitlines()[2:5]]
    assert [[cell.strip() for cell in line if cell][:6] for line in lines] == [
        ["als", "temporal", "excluded", "4", "-", "0.4000"],
        ["als", "temporal", "excluded, with history", "3", "-", "0.5000 [0.4000, 0.6000]"],
        ["als", "temporal", "excluded, without history", "1", "-", "0.1000"],
    ]

"""Results as rows of a CSV file: what is kept, what is replaced."""

from pathlib import Path
from typing import Any

import pytest

from sparkrec.baselines.popularity.global_hot import GlobalHot
from sparkrec.evaluation.metrics import Evaluation
from sparkrec.pipeline.report import Result, metrics_json
from sparkrec.pipeline.result_rows import merge, read_rows, rows_of, write_rows

EVALUATION = Evaluation(
    14980,
    {"recall@20": 0.301612, "ndcg@20": 0.1261, "recall@5": 0.1, "own@3": 1.0},
    {"recall@20": (0.294, 0.31)},
)


def run(protocol: str = "last_3", seconds: float = 12.345, commit: str = "abc") -> dict[str, Any]:
    """A run of DSSM with a yardstick beside it."""
    made = metrics_json(
        model="dssm",
        trained=GlobalHot,
        dataset="ml_1m",
        config={},
        seed=1,
        data="x",
        seconds={"fit": seconds},
        results=[
            Result.of(EVALUATION, "dssm", protocol, False),
            Result.of(EVALUATION, "dssm", protocol, True),
            Result.of(EVALUATION, "global_hot", protocol, False),
        ],
    )
    made["versions"] = {"commit": commit} if commit else {}
    return made


def test_a_run_has_a_row_a_result() -> None:
    kept, excluded = rows_of("dssm_x", run())
    assert kept == {
        "dataset": "ml_1m",
        "conf": "dssm_x",
        "model": "dssm",
        "protocol": "last_3",
        "seen": "kept",
        "queries": "all",
        "n": "14980",
        "fit_seconds": "12.3",
        "commit": "abc",
        "recall@20": "0.301612",
        "recall@20 low": "0.294",
        "recall@20 high": "0.31",
        "ndcg@20": "0.1261",
        "recall@5": "0.1",
        "own@3": "1.0",
    }
    assert excluded == {**kept, "seen": "excluded"}
    assert rows_of("dssm_x", run(commit=""))[0]["commit"] == ""


def test_queries_without_a_history_have_rows_of_their_own() -> None:
    parts = {"without history": Evaluation(4, {"recall@20": 0.1}, {})}
    made = run()
    made["results"] = [Result.of(Evaluation(9, {}, {}, parts), "dssm", "temporal", False).to_json()]
    rows = rows_of("dssm_x", made)
    assert [(row["queries"], row["n"], row.get("recall@20")) for row in rows] == [
        ("all", "9", None),
        ("without history", "4", "0.1"),
    ]


@pytest.mark.parametrize("protocol", ["next_basket", "cold_items"])
def test_some_protocols_have_their_yardsticks_without_seconds(protocol: str) -> None:
    rows = rows_of("dssm_x", run(protocol))
    assert [row["model"] for row in rows] == ["dssm", "dssm", "global_hot"]
    assert [row["fit_seconds"] for row in rows] == ["12.3", "12.3", ""]


def test_rows_of_confs_that_were_not_run_stay(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    assert read_rows(path) == []
    write_rows(
        path, merge([], [*rows_of("b", run(commit="old")), *rows_of("a", run(commit="old"))])
    )
    text = path.read_text()
    assert text.splitlines()[0] == (
        "dataset,conf,model,protocol,seen,queries,n,fit_seconds,commit,"
        "recall@5,recall@20,recall@20 low,recall@20 high,ndcg@20,own@3"
    )
    write_rows(path, merge(read_rows(path), rows_of("b", run(seconds=1, commit="new"))))
    found = [(row["conf"], row["seen"], row["commit"]) for row in read_rows(path)]
    assert found == [
        ("a", "kept", "old"),
        ("a", "excluded", "old"),
        ("b", "kept", "new"),
        ("b", "excluded", "new"),
    ]
    assert path.read_text().splitlines()[:3] == text.splitlines()[:3]

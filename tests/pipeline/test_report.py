"""metrics.json and the tables made of it."""

import json
import subprocess
import sys

from sparkrec.evaluation.metrics import Evaluation
from sparkrec.pipeline.report import (
    Result,
    format_markdown,
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
    ]
    assert written["seconds"] == {"fit": 1234.568}
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


def test_markdown_shows_the_published_figure_where_it_compares() -> None:
    assert format_markdown({"dssm_batch_neg_ml_1m": run(), "mine": run()}).splitlines() == [
        "**ml_1m**",
        "",
        "| model | conf | protocol | seen | precision@20 | recall@20 | MAP@20 | NDCG@20 "
        "| recall@10 | NDCG@10 | coverage@20 | popularity@20 | fit s | published recall / NDCG |",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
        "| dssm | `dssm_batch_neg_ml_1m` | `last_3` | kept | 0.0151 | 0.3016 [0.2940, 0.3100] "
        "| 0.0801 | 0.1261 [0.1220, 0.1300] | - | - | 0.7100 | 1,025 | 1,234.6 | 0.3016 / 0.1261 |",
        "| dssm | `dssm_batch_neg_ml_1m` | `last_3` | excluded | 0.0151 "
        "| 0.3016 [0.2940, 0.3100] | 0.0801 | 0.1261 [0.1220, 0.1300] "
        "| - | - | 0.7100 | 1,025 | 1,234.6 |  |",
        "| dssm | `mine` | `last_3` | kept | 0.0151 | 0.3016 [0.2940, 0.3100] "
        "| 0.0801 | 0.1261 [0.1220, 0.1300] | - | - | 0.7100 | 1,025 | 1,234.6 |  |",
        "| dssm | `mine` | `last_3` | excluded | 0.0151 "
        "| 0.3016 [0.2940, 0.3100] | 0.0801 | 0.1261 [0.1220, 0.1300] "
        "| - | - | 0.7100 | 1,025 | 1,234.6 |  |",
    ]


def test_markdown_has_a_table_a_data_set_with_its_protocols_metrics() -> None:
    baskets = Result("hrm", "next_basket", False, 9, {"hit@5": 0.5}, {})
    yardstick = Result("personal_top", "next_basket", False, 9, {"hit@5": 0.25}, {})
    sessions = Result("gru4rec", "session_next", False, 9, {"mrr@20": 0.3}, {"mrr@20": (0.2, 0.4)})
    runs = {
        "hrm_tafeng": run() | {"model": "hrm", "dataset": "tafeng"},
        "gru4rec_xe_rsc15": run() | {"model": "gru4rec", "dataset": "rsc15"},
    }
    runs["hrm_tafeng"]["results"] = [baskets.to_json(), yardstick.to_json()]
    runs["gru4rec_xe_rsc15"]["results"] = [sessions.to_json()]
    lines = format_markdown(runs).splitlines()
    assert [line for line in lines if line.startswith("**")] == ["**tafeng**", "**rsc15**"]
    assert lines[4].startswith("| hrm | `hrm_tafeng` | `next_basket` | kept | 0.5000 | - |")
    assert lines[5].startswith("| personal_top | `hrm_tafeng` | `next_basket` | kept | 0.2500 |")
    assert " | - |  |" in lines[5]  # a yardstick's seconds are not the model's
    assert lines[-1].startswith(
        "| gru4rec | `gru4rec_xe_rsc15` | `session_next` | kept | - | 0.3000 [0.2000, 0.4000] |"
    )

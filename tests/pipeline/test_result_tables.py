"""The tables of docs/results.md and of the README."""

from sparkrec.pipeline.result_rows import Row
from sparkrec.pipeline.result_tables import format_headlines, format_tables


def row(conf: str, model: str, recall: str, **others: str) -> Row:
    about = {
        "dataset": "ml_1m",
        "protocol": "last_3",
        "seen": "kept",
        "queries": "all",
        "n": "14980",
    }
    made = {"conf": conf, "model": model, "recall@20": recall, "fit_seconds": "1234.6"}
    return {**about, **made, "commit": "abc", "ndcg@20": "0.1261", **others}


def test_the_whole_table() -> None:
    interval = {"recall@20 low": "0.294", "recall@20 high": "0.31"}
    more = {"popularity@20": "1024.6", "coverage@20": "0.7", **interval}
    rows = [
        row("dssm_batch_neg_ml_1m", "dssm", "0.30159", **more),
        row("dssm_batch_neg_ml_1m", "dssm", "0.2", seen="excluded", n="", commit=""),
    ]
    assert format_tables(rows).splitlines() == [
        "## ml_1m",
        "",
        "| model | conf | protocol | seen | n | precision@20 | recall@20 | MAP@20 | NDCG@20 "
        "| recall@10 | NDCG@10 | coverage@20 | popularity@20 | fit s | published | commit |",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|",
        "| dssm | `dssm_batch_neg_ml_1m` | `last_3` | kept | 14,980 | - | 0.3016 [0.2940, 0.3100] "
        "| - | 0.1261 | - | - | 0.7000 | 1,025 | 1,234.6 | 0.3016 / 0.1261 | abc |",
        "| dssm | `dssm_batch_neg_ml_1m` | `last_3` | excluded | - | - | 0.2000 "
        "| - | 0.1261 | - | - | - | - | 1,234.6 |  |  |",
    ]


def test_a_table_a_data_set_with_its_protocols_metrics() -> None:
    baskets = {"dataset": "tafeng", "protocol": "next_basket", "hit@5": "0.5"}
    sessions = {"dataset": "rsc15", "protocol": "session_next", "mrr@20": "0.3"}
    rows = [
        row("gru4rec_xe_rsc15", "gru4rec", "0.7", **sessions),
        row("hrm_tafeng", "hrm", "0.2", **baskets),
        row("hrm_tafeng", "personal_top", "0.1", fit_seconds="", **baskets),
    ]
    lines = format_tables(rows).splitlines()
    assert [line for line in lines if line.startswith("## ")] == ["## rsc15", "## tafeng"]
    assert lines[4].startswith(
        "| gru4rec | `gru4rec_xe_rsc15` | `session_next` | kept | 14,980 | 0.7000 | 0.3000 | 0.1261"
    )
    assert lines[4].endswith("| 1,234.6 | 0.6820 / 0.3590 | abc |")
    assert lines[-1].startswith(
        "| personal_top | `hrm_tafeng` | `next_basket` | kept | 14,980 | 0.5000 | - |"
    )
    assert lines[-1].endswith(" | - |  | abc |")  # a yardstick's seconds are not the model's


def test_cold_items_have_a_table_of_their_own_without_ages() -> None:
    cold = {"protocol": "cold_items", "cold_share@20": "0.06", "mrr@20": "0.1"}
    rows = [
        row("ssr_ml_1m", "ssr", "0.4"),
        row("ssr_cold_ml_1m", "ssr", "0.3", **cold),
        row("ssr_cold_ml_1m", "ssr", "0.2", queries="cold among cold", **cold),
        row("ssr_cold_ml_1m", "ssr", "0.1", queries="cold, older", **cold),
    ]
    lines = format_tables(rows).splitlines()
    assert [line for line in lines if line.startswith("#")] == ["## ml_1m", "## ml_1m, cold_items"]
    assert len([line for line in lines if "`ssr_cold_ml_1m`" in line]) == 2
    assert "| kept, cold among cold | 14,980 | 0.2000 | 0.1261 | 0.1000 | - | 0.0600 |" in lines[-1]


def test_headlines_have_each_models_best_conf_and_the_best_published_figure() -> None:
    rows = [
        row("dssm_batch_neg_ml_1m", "dssm", "0.33"),
        row("dssm_bce_neg10_ml_1m", "dssm", "0.25"),
        row("dssm_features_ml_1m", "dssm", "0.34", fit_seconds="2"),
        row("dssm_features_ml_1m", "dssm", "0.42", seen="excluded"),
        row("dssm_loo_ml_1m", "dssm", "0.5", protocol="leave_one_out"),
        row("sasrec_ce_ml_1m", "sasrec", "0.38"),
        row("mine", "dssm", "0.9", dataset="mine"),
        row("gru4rec_xe_rsc15", "gru4rec", "0.68", dataset="rsc15", protocol="session_next"),
    ]
    assert format_headlines(rows).splitlines() == [
        "**ml_1m**, `last_3`",
        "",
        "| model | conf | recall@20 | NDCG@20 | fit s | published |",
        "|---|---|--:|--:|--:|---|",
        "| sasrec | `sasrec_ce_ml_1m` | 0.3800 | 0.1261 | 1,234.6 |  |",
        "| dssm | `dssm_features_ml_1m` | 0.3400 | 0.1261 | 2.0 | 0.3016 / 0.1261 |",
        "",
        "**rsc15**, `session_next`",
        "",
        "| model | conf | recall@20 | MRR@20 | fit s | published |",
        "|---|---|--:|--:|--:|---|",
        "| gru4rec | `gru4rec_xe_rsc15` | 0.6800 | - | 1,234.6 | 0.6820 / 0.3590 |",
    ]

"""Markdown of the rows of `docs/results.csv`: the whole tables, and the README's one screen."""

from collections.abc import Mapping, Sequence

from sparkrec.evaluation.protocols import COLD_ITEMS
from sparkrec.pipeline.published import PUBLISHED, Published
from sparkrec.pipeline.result_rows import ALL, Row

# Metrics that a table shows of a protocol; True with the interval.
_PER_EVENT = {
    "precision@20": False,
    "recall@20": True,
    "map@20": False,
    "ndcg@20": True,
    "recall@10": False,
    "ndcg@10": False,
}
_SHOWN = {
    "session_next": {
        "recall@20": True,
        "mrr@20": True,
        "ndcg@20": False,
        "recall@10": False,
        "mrr@10": False,
    },
    "next_basket": {
        **dict.fromkeys(("hit@5", "hit@10", "hit@20", "recall@5"), False),
        "recall@10": True,
        **dict.fromkeys(("recall@20", "f1@5", "f1@10", "f1@20"), False),
        **dict.fromkeys(("ndcg@5", "ndcg@10", "ndcg@20"), False),
    },
    COLD_ITEMS: {
        "recall@20": True,
        "ndcg@20": False,
        "mrr@20": False,
        "recall@10": False,
        "cold_share@20": False,
    },
}
# Groups of queries that only the CSV file has: cold targets by age.
_LEFT_OUT = "cold, "
# The README's protocol and second metric by data set; others are left to the whole tables.
_HEADLINES = {
    "ml_1m": ("last_3", "ndcg@20"),
    "rsc15": ("session_next", "mrr@20"),
    "tafeng": ("next_basket", "ndcg@20"),
    "complete_journey": ("next_basket", "ndcg@20"),
}


def format_tables(rows: Sequence[Row]) -> str:
    """The tables of all rows, one a data set and kind of metrics."""
    tables: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    titles: dict[tuple[str, tuple[str, ...]], str] = {}
    for row in rows:
        if row["queries"].startswith(_LEFT_OUT):
            continue
        shown = _SHOWN.get(row["protocol"], _PER_EVENT)
        table = row["dataset"], tuple(shown)
        tables.setdefault(table, []).append(_full_line(row, shown))
        cold = row["protocol"] == COLD_ITEMS
        titles[table] = f"{row['dataset']}, {COLD_ITEMS}" if cold else row["dataset"]
    parts = []
    for table, lines in tables.items():
        names = table[1]
        header = ["model", "conf", "protocol", "seen", "n", *map(_title, names)]
        header += ["coverage@20", "popularity@20", "fit s", "published", "commit"]
        rule = "|---" * 4 + "|--:" * (len(header) - 6) + "|---" * 2 + "|"
        parts.append(
            "\n".join([f"## {titles[table]}", "", f"| {' | '.join(header)} |", rule, *lines])
        )
    return "\n\n".join(parts)


def format_headlines(rows: Sequence[Row]) -> str:
    """The README's tables: of each model the conf with the best recall@20, seen items kept."""
    parts = []
    for dataset, (protocol, second) in _HEADLINES.items():
        best: dict[str, Row] = {}
        published: dict[str, Published] = {}
        for row in rows:
            wanted = (dataset, protocol, "kept", ALL)
            if (row["dataset"], row["protocol"], row["seen"], row["queries"]) != wanted:
                continue
            model = row["model"]
            if model not in best or float(row["recall@20"]) > float(best[model]["recall@20"]):
                best[model] = row
            figure = _published(row)
            if figure and (model not in published or figure.recall > published[model].recall):
                published[model] = figure
        lines = [
            f"| {model} | `{row['conf']}` | {_cell(row, 'recall@20')} | {_cell(row, second)} "
            f"| {_seconds(row)} | {_figure(published.get(model))} |"
            for model, row in sorted(best.items(), key=lambda found: -float(found[1]["recall@20"]))
        ]
        if lines:
            header = f"| model | conf | recall@20 | {_title(second)} | fit s | published |"
            rule = "|---|---|--:|--:|--:|---|"
            parts.append("\n".join([f"**{dataset}**, `{protocol}`", "", header, rule, *lines]))
    return "\n\n".join(parts)


def _full_line(row: Row, shown: Mapping[str, bool]) -> str:
    cells = [
        row["model"],
        f"`{row['conf']}`",
        f"`{row['protocol']}`",
        row["seen"] if row["queries"] == ALL else f"{row['seen']}, {row['queries']}",
        f"{int(row['n']):,}" if row["n"] else "-",
        *(_cell(row, name, interval) for name, interval in shown.items()),
        _cell(row, "coverage@20"),
        _cell(row, "popularity@20", digits=0),
        _seconds(row),
        _figure(_published(row)),
        row["commit"],
    ]
    return "| " + " | ".join(cells) + " |"


def _published(row: Row) -> Published | None:
    """What others report for the conf, of the same protocol, with seen items kept."""
    figure = PUBLISHED.get(row["conf"])
    comparable = figure and figure.protocol == row["protocol"]
    comparable = comparable and row["seen"] == "kept" and row["queries"] == ALL
    return figure if comparable and row["fit_seconds"] else None


def _figure(figure: Published | None) -> str:
    return f"{figure.recall:.4f} / {figure.second:.4f}" if figure else ""


def _seconds(row: Row) -> str:
    return f"{float(row['fit_seconds']):,.1f}" if row["fit_seconds"] else "-"


def _title(metric: str) -> str:
    return metric.replace("ndcg", "NDCG").replace("map", "MAP").replace("mrr", "MRR")


def _cell(row: Row, metric: str, interval: bool = False, digits: int = 4) -> str:
    if not row.get(metric):
        return "-"
    value = f"{float(row[metric]):,.{digits}f}"
    low, high = row.get(f"{metric} low"), row.get(f"{metric} high")
    if interval and low and high:
        return f"{value} [{float(low):.4f}, {float(high):.4f}]"
    return value

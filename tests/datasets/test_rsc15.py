"""RSC15's two forms to train events and test queries."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkrec.datasets.rsc15 import PrepareRSC15, RSC15Input, prepare_rsc15
from sparkrec.errors import DataError
from sparkrec.io.tables import load_table

DAY = 86_400


def prepare(spark: SparkSession, tmp_path: Path, source: RSC15Input, **settings: int) -> str:
    target = str(tmp_path / "rsc15")
    prepare_rsc15(
        spark,
        PrepareRSC15(
            job="prepare_rsc15", dataset="mine", input=source, output_path=target, **settings
        ),
    )
    return target


def write(path: Path, rows: list[str], header: str | None = None) -> str:
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return str(path)


HEADER = "SessionId\tItemId\tTime"


def test_prepared_files(spark: SparkSession, tmp_path: Path) -> None:
    train = write(tmp_path / "train.txt", ["2\t10\t100.5", "1\t11\t50.25", "2\t12\t100.75"], HEADER)
    test = write(tmp_path / "test.txt", ["7\t10\t900.9", "7\t99\t901", "7\t12\t902.1"], HEADER)
    target = prepare(spark, tmp_path, RSC15Input(train=train, test=test))
    events = load_table(spark, f"{target}/train").orderBy("position").collect()
    wanted = [(1, 11, 50, 0), (2, 10, 100, 1), (2, 12, 100, 2)]
    found = [(r["session_id"], r["item_id"], r["timestamp"], r["position"]) for r in events]
    assert found == wanted
    queries = load_table(spark, f"{target}/test").collect()
    assert [(q["session_id"], q["history"], q["relevant"]) for q in queries] == [(7, [10], [12])]


@pytest.mark.slow
def test_raw_clicks_are_filtered_and_split_by_the_last_day(
    spark: SparkSession, tmp_path: Path
) -> None:
    def click(session: int, second: int, item: int) -> str:
        day, rest = divmod(second, DAY)
        moment = f"2014-04-{day + 1:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
        return f"{session},{moment}.123Z,{item},0"

    rows = [
        *(click(1, second, 10 + second % 2) for second in range(6)),
        *(click(2, 100 + second, 10) for second in range(3)),
        click(3, 200, 10),  # alone in its session
        *(click(4, 300 + second, item) for second, item in enumerate((10, 50))),  # 50 is rare
        *(click(5, DAY * 5 + second, 10 + second % 2) for second in range(4)),
    ]
    source = RSC15Input(clicks=write(tmp_path / "clicks.dat", rows))
    target = prepare(spark, tmp_path, source, min_item_events=3)
    train = load_table(spark, f"{target}/train")
    assert {row[0] for row in train.select("session_id").distinct().collect()} == {1, 2}
    queries = load_table(spark, f"{target}/test").orderBy("query_id").collect()
    assert [query["relevant"][0] for query in queries] == [11, 10, 11]
    assert [len(query["history"]) for query in queries] == [1, 2, 3]


@pytest.mark.slow
def test_mistakes(spark: SparkSession, tmp_path: Path) -> None:
    for wrong in (
        {},
        {"train": "a"},
        {"clicks": "a", "train": "b", "test": "c"},
        {"clicks": "a", "test": "c"},
    ):
        with pytest.raises(ValueError, match="clicks must be given, or train and test"):
            RSC15Input(**wrong)
    short = write(tmp_path / "short.txt", ["1\t10\t5", "2\t10\t6"], HEADER)
    with pytest.raises(DataError, match="test would have no rows"):
        prepare(spark, tmp_path, RSC15Input(train=short, test=short))
    assert not (tmp_path / "rsc15").exists()
    bad = write(tmp_path / "train.txt", ["1\tten\t5"], HEADER)
    with pytest.raises(DataError, match=r"input\.train"):
        prepare(spark, tmp_path, RSC15Input(train=bad, test=bad))

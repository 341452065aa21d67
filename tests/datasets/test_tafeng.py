"""Ta-Feng's baskets to events."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkrec.datasets.tafeng import PrepareTaFeng, TaFengInput, prepare_tafeng
from sparkrec.errors import DataError, StorageError
from sparkrec.io.tables import load_table


def prepare(spark: SparkSession, folder: Path, text: str) -> str:
    (folder / "baskets.json").write_text(text)
    source = TaFengInput(str(folder / "baskets.json"))
    prepared = prepare_tafeng(
        spark,
        PrepareTaFeng(
            job="prepare_tafeng", dataset="tafeng", input=source, output_path=str(folder / "out")
        ),
    )
    return str(prepared)


def test_baskets_in_their_order(spark: SparkSession, tmp_path: Path) -> None:
    said = prepare(spark, tmp_path, '{"7": [[3, 1], [1]], "2": [[5], [], [5, 5]]}')
    events = load_table(spark, str(tmp_path / "out" / "events")).orderBy("position")
    columns = ["user_id", "item_id", "basket_id", "timestamp", "position"]
    assert events.columns == columns
    assert [tuple(row) for row in events.collect()] == [
        (7, 3, 0, 0, 0),
        (7, 1, 0, 0, 1),
        (7, 1, 1, 1, 2),
        (2, 5, 2, 0, 3),
        (2, 5, 4, 2, 4),
        (2, 5, 4, 2, 5),
    ]
    assert "4 of 2 users" in said  # the empty basket is none


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[[1]]", "must be an object of users, not a list"),
        ('{"a": [[1]]}', "user 'a' must be a number with a list of baskets"),
        ('{"1": [["x"]]}', "user '1' must be"),
        ('{"1": [[[1, 2], [3, 4]]]}', "user '1' must be"),
        ('{"1": 5}', "user '1' must be"),
        ('{"1": [[]]}', "has no basket with an item"),
    ],
)
def test_mistakes(spark: SparkSession, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(spark, tmp_path, text)
    assert not (tmp_path / "out").exists()


def test_a_missing_file(spark: SparkSession, tmp_path: Path) -> None:
    source = TaFengInput(str(tmp_path / "none.json"))
    with pytest.raises(StorageError, match=r"none\.json"):
        prepare_tafeng(
            spark,
            PrepareTaFeng(
                job="prepare_tafeng",
                dataset="tafeng",
                input=source,
                output_path=str(tmp_path / "out"),
            ),
        )

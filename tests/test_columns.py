"""Column names: those that work everywhere, and those that are refused before anything runs."""

from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines.als.als import ALS
from sparkrec.baselines.item_to_item.item_cf import ItemCF
from sparkrec.baselines.item_to_item.swing import Swing
from sparkrec.baselines.popularity.global_hot import GlobalHot
from sparkrec.baselines.popularity.personal_top import PersonalTop
from sparkrec.columns import Columns, check_column_names
from sparkrec.config.load import from_json
from sparkrec.errors import ConfigError, DataError
from sparkrec.io.tables import read_table, write_table
from sparkrec.models.dssm import DSSM
from sparkrec.models.gru4rec import GRU4Rec
from sparkrec.models.hrm import HRM
from sparkrec.models.sasrec import SASRec
from sparkrec.models.simplex import SimpleX
from sparkrec.retrieval.base import Retriever
from sparkrec.training.retrievers import retriever_of
from sparkrec.transforms.filters import k_core
from sparkrec.transforms.history import add_history
from sparkrec.transforms.negatives import sample_negatives
from sparkrec.transforms.sessionize import sessionize
from sparkrec.transforms.split import last_basket, leave_one_out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"user": ""}, "user must be another name: '' is empty"),
        ({"session": " "}, "session must be another name: ' ' is empty"),
        ({"user": "a.b"}, "user must be another name: 'a.b' has a dot, a backtick"),
        ({"item": "a`b"}, "item must be another name: 'a`b' has a dot, a backtick"),
        ({"item": "*"}, "item must be another name: '*' has a dot"),
        ({"item": "a\nb"}, "item must be another name: 'a\\nb' has a dot"),
        ({"item": "item_id "}, "item must be another name: 'item_id ' has a dot"),
        ({"rating": "_SR_rating"}, "rating must be another name: '_SR_rating' begins with _sr_"),
        ({"user": "id", "item": "id"}, "item must be another column than user: both are `id`"),
        ({"user": "ID", "item": "id"}, "item must be another column than user: both are `id`"),
        ({"position": "Timestamp"}, "position must be another column than timestamp: both are"),
        ({"item": "history"}, "item must be another name: sparkrec adds a column `history`"),
        ({"session": "Query_Id"}, "session must be another name: sparkrec adds a column"),
        (
            {"item": "movie_id", "user": "last_movie"},
            "user must be another name: sparkrec adds a column `last_movie`",
        ),
        (
            {"user": "recent_item_ids"},
            "user must be another name: sparkrec adds a column `recent_item_ids`",
        ),
    ],
)
def test_names_that_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(Columns, given, "x.yaml")
    assert str(caught.value).removeprefix("x.yaml:").lstrip("12: ").startswith(message)


def test_names_of_a_table() -> None:
    check_column_names(["a b", "ü", "A"], "input.events")
    with pytest.raises(DataError, match=r"^input.events: the column name '_sr_rank' begins with"):
        check_column_names(["a", "_sr_rank"], "input.events")
    with pytest.raises(DataError, match="the columns `User` and `user` differ in case only"):
        check_column_names(["User", "user"], "input.events")


# Names with everything that is allowed, and names that code may use for something of its own.
ODD = Columns("User ID", "товар-id, {x}=1", "时间", 'pos"1"', "rating; %", "корзина №")
PLAIN = Columns("item", "n", "key", "value", "count", "score")


def events_table(spark: SparkSession, columns: Columns, path: str) -> DataFrame:
    """Two tastes: users of a parity buy the items of that parity."""
    rows = [
        (user, f"i{2 * (user * 3 + step * step) % 12 + user % 2}", 10_000 * step, 9 * step + user)
        for user in range(8)
        for step in range(8)
    ]
    parts = (columns.user, columns.item, columns.timestamp, columns.position)
    frame = spark.createDataFrame([(*row, 4.0) for row in rows], [*parts, str(columns.rating)])
    write_table(frame, path, "prepare", files=1)
    return read_table(spark, path, "events")


@pytest.mark.slow
@pytest.mark.parametrize("columns", [ODD, PLAIN], ids=["odd", "plain"])
def test_names_work_from_events_to_recommendations(
    spark: SparkSession, tmp_path: Path, columns: Columns
) -> None:
    events = events_table(spark, columns, str(tmp_path / "events"))
    usual = events_table(spark, Columns(rating="rating", session="s"), str(tmp_path / "usual"))
    renamed = dict(zip(usual.columns, events.columns, strict=True)) | {"s": str(columns.session)}
    renamed |= {"recent_item_ids": columns.recent_items, "last_item": columns.last_item}

    def same(found: DataFrame, expected: DataFrame) -> None:
        """Check that a frame is that of the usual names, and has the odd ones."""
        assert found.columns == [renamed.get(name, name) for name in expected.columns]
        assert sorted(map(str, found.collect())) == sorted(
            str(row) for row in expected.toDF(*found.columns).collect()
        )

    plain = Columns(rating="rating", session="s")
    tables = []
    for frame, names in ((events, columns), (usual, plain)):
        sessions = sessionize(frame, names, gap_seconds=15_000)
        core = k_core(sessions, names, 2, 2)
        items = frame.select(names.item).distinct().withColumn("kind", frame[names.item])
        split = leave_one_out(add_history(core, names, 5, items, ["kind"]), names)
        tables.append(
            (split, last_basket(core, names), sample_negatives(split.train, core, names, 2))
        )
    (split, baskets, negatives), (split_, baskets_, negatives_) = tables
    for found, expected in zip(vars(split).values(), vars(split_).values(), strict=True):
        same(found, expected)
    same(baskets.test, baskets_.test)
    same(negatives, negatives_)

    params = {
        "user_col": columns.user,
        "item_col": columns.item,
        "timestamp_col": columns.timestamp,
        "position_col": columns.position,
        "k": 3,
    }
    short = {"epochs": 1, "batch_size": 16, "early_stopping": None}
    train = split.train.persist()
    estimators: list[Retriever] = [
        *(kind(**params) for kind in (GlobalHot, PersonalTop, ItemCF, Swing)),
        ALS(**params, rank=2, max_iter=1),
        *(
            retriever_of(network)(**params, **short, num_negatives=2)
            for network in (DSSM, HRM, SimpleX)
        ),
        *(
            retriever_of(network)(**params, **short, loss="softmax", negatives="all")
            for network in (GRU4Rec, SASRec)
        ),
    ]
    for estimator in estimators:
        model = estimator.fit(train)
        answered = model.transform(split.test)
        assert answered.columns == [*split.test.columns, "recommended"]
        lists = answered.collect()
        assert lists and all(row["recommended"] for row in lists), type(estimator).__name__

"""SSR on Spark: features of the user that stay the same, beside the history."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.errors import SchemaError
from sparkrec.retrieval.answering.answerer import load as load_answerer
from sparkrec.retrieval.two_tower import TwoTowerModel
from sparkrec.schema.parser import feature_schema
from sparkrec.training.retrievers import SSR, GRU4Rec
from sparkrec.training.settings import EarlyStopping

ITEMS = 9
UP, DOWN, NEW_USERS = "up", "down", (1000, 1001)


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    """Half of the users go round the items forwards, the others backwards."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(120):
        start = rng.integers(ITEMS)
        for place in range(2 + user % 6):
            item = int(start + (place if user % 2 else -place)) % ITEMS
            rows.append((user, item, place, 10 * user + place))
    schema = "user_id long, item_id long, timestamp long, position long"
    return spark.createDataFrame(rows, schema).coalesce(1).cache()


@pytest.fixture(scope="module")
def users(spark: SparkSession) -> DataFrame:
    rows = [(user, UP if user % 2 else DOWN) for user in (*range(120), *NEW_USERS)]
    return spark.createDataFrame(rows, "user_id long, way string").coalesce(1).cache()


def schema(*features: str) -> Any:
    columns = "\n".join(dict.fromkeys(part for one in features for part in one.split("#")))
    return feature_schema(columns, "columns", "\n".join(features), "features")


def ssr(users: DataFrame | None, *features: str, **params: Any) -> SSR:
    settings = {
        "max_len": 5,
        "hidden": (16,),
        "embedding_dim": 16,
        "join_hidden": (32,),
        "epochs": 12,
        "batch_size": 16,
        "learning_rate": 0.02,
        "early_stopping": None,
        "seed": 1,
        "k": 1,
        "exclude_seen": False,
        "fallback": "none",
        **params,
    }
    return SSR(users=users, user_schema=schema("recent_item_ids", *features), **settings)


def next_items(model: TwoTowerModel, queries: list[tuple[int, int | None, list[int]]]) -> list:
    frame = SparkSession.active().createDataFrame(
        queries, "query_id long, user_id long, history array<long>"
    )
    rows = sorted(model.transform(frame).collect(), key=lambda row: row["query_id"])
    return [[entry["item_id"] for entry in row["recommended"]] for row in rows]


# One item does not say which way its user goes; the users are new to the model.
ONE_ITEM = [(2 * item + way, NEW_USERS[way], [item]) for item in range(ITEMS) for way in (0, 1)]
WANTED = [[(item + (1 if way else -1)) % ITEMS] for item in range(ITEMS) for way in (0, 1)]


def test_a_feature_of_the_user_decides_what_the_history_does_not(
    events: DataFrame, users: DataFrame, tmp_path: Path
) -> None:
    model = ssr(users, "way").fit(events)
    assert next_items(model, ONE_ITEM) == WANTED
    plain = next_items(ssr(None).fit(events), ONE_ITEM)
    assert plain[::2] == plain[1::2]
    model.save(str(tmp_path / "model"))
    loaded = TwoTowerModel.load(str(tmp_path / "model"))
    loaded.users = users
    assert next_items(loaded, ONE_ITEM) == WANTED
    # Without Spark the query has the feature itself.
    import pyarrow as pa

    asked = pa.table({"history": [[3], [3]], "way": [UP, DOWN]})
    answers = load_answerer(str(tmp_path / "model")).answer(asked)
    assert [[item for item, _ in answer] for answer in answers] == [[4], [2]]


def test_who_is_in_no_table_and_who_has_no_history(events: DataFrame, users: DataFrame) -> None:
    model = ssr(users, "way", k=3, fallback="global_hot").fit(events)
    stranger, nobody, empty, hot = next_items(
        model, [(0, 5000, [3, 4, 5]), (1, None, [3, 4, 5]), (2, 1, []), (3, None, [])]
    )
    assert stranger == nobody and stranger[0] == 6
    assert empty == hot  # a feature alone is no history


def test_validation_reads_the_features(events: DataFrame, users: DataFrame) -> None:
    stopping = EarlyStopping("recall@1", 12, refit=False)
    model = ssr(users, "way", early_stopping=stopping).fit(events)
    assert max(entry["recall@1"] for entry in model.fit_report["history"]) > 0.9


def test_weights_and_features_in_one_window(events: DataFrame, users: DataFrame) -> None:
    """Events of weight 0 teach nothing, whatever the features beside them are."""
    others = ("item_id * 4 % 9 AS item_id", "timestamp", "position", "0 AS worth")
    wrong = events.selectExpr("user_id + 200 AS user_id", *others)
    both = events.selectExpr("*", "1 AS worth").union(wrong)
    known = users.union(users.selectExpr("user_id + 200", "way"))
    model = ssr(known, "way", weight_col="worth").fit(both)
    assert next_items(model, ONE_ITEM) == WANTED


def test_the_user_itself_is_a_feature(events: DataFrame) -> None:
    """Not from the users table: there is none."""
    model = ssr(None, "user_id", k=ITEMS).fit(events)
    found = {tuple(given) for given in next_items(model, [(u, u, [3]) for u in range(4, 24)])}
    assert len(found) > 1


@pytest.mark.slow
def test_two_workers_and_a_resumed_run(events: DataFrame, users: DataFrame, tmp_path: Path) -> None:
    assert next_items(ssr(users, "way", workers=2).fit(events), ONE_ITEM) == WANTED
    whole = ssr(users, "way", epochs=3).fit(events)
    path = str(tmp_path / "work")
    ssr(users, "way", epochs=2, work_path=path).fit(events)
    resumed = ssr(users, "way", epochs=3, work_path=path, resume=True).fit(events)
    assert (resumed.item_vectors == whole.item_vectors).all()


def test_a_warm_start_with_new_users_and_items(
    events: DataFrame, users: DataFrame, tmp_path: Path
) -> None:
    half = events.where("item_id < 5")
    ssr(users.where("way = 'up'"), "way", epochs=2).fit(half).save(str(tmp_path / "first"))
    model = ssr(users, "way", model_in_path=str(tmp_path / "first")).fit(events)
    assert next_items(model, ONE_ITEM) == WANTED


def test_mistakes(events: DataFrame, users: DataFrame) -> None:
    moving = events.selectExpr("*", "timestamp AS hour")
    with pytest.raises(SchemaError, match="`hour` reads the column `hour`, which is not in the us"):
        ssr(users, "hour").fit(moving)
    with pytest.raises(SchemaError, match="reads the column `last_item_id`, which is not in the"):
        ssr(users, "last_item_id").fit(events)
    with pytest.raises(SchemaError, match="GRU4Rec reads `recent_item_ids` alone; take out `way`"):
        GRU4Rec(users=users, user_schema=schema("recent_item_ids", "way")).fit(events)
    with pytest.raises(SchemaError, match="SSR reads the user's recent items"):
        SSR(users=users, user_schema=schema("way")).fit(events)

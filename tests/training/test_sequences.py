"""Sequence models from events to answers: what follows what is learned, in either way to train."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.errors import ConfigError, DataError
from sparkrec.training.retrievers import DSSM, GRU4Rec, SASRec
from sparkrec.training.settings import EarlyStopping
from sparkrec.training.step.optimizers import set_learning_rate

ITEMS = 9
SIDE_BY_SIDE = {
    "session_parallel": True,
    "batch_size": 8,
    "optimizer": "adagrad",
    "learning_rate": 0.1,
    "momentum": 0.2,
    "negatives": "sampled",
    "samples": 20,
    "sparse": True,
}
WINDOWS = {"batch_size": 8, "learning_rate": 0.02}


def gru4rec(**params: Any) -> GRU4Rec:
    common = {"hidden": (8,), "embedding_dim": 8, "max_len": 5, "epochs": 8, "k": 1, "seed": 2}
    return GRU4Rec(**{**common, "early_stopping": None, "exclude_seen": False, **params})


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    """Sixty users who go round nine items, each from another place, for 3 to 12 steps."""
    rows = [
        (user, (user + place) % ITEMS, place, 20 * user + place)
        for user in range(60)
        for place in range(3 + user % 10)
    ]
    schema = "user_id long, item_id long, timestamp long, position long"
    return spark.createDataFrame(rows, schema).coalesce(1).cache()


@pytest.fixture(scope="module")
def queries(spark: SparkSession) -> DataFrame:
    rows = [(item, [(item - 1) % ITEMS, item]) for item in range(ITEMS)]
    return spark.createDataFrame(rows, "query_id long, history array<long>").coalesce(1)


@pytest.mark.parametrize("way", [WINDOWS, SIDE_BY_SIDE], ids=["windows", "side by side"])
def test_what_follows_is_learned(
    events: DataFrame, queries: DataFrame, way: dict[str, Any]
) -> None:
    model = gru4rec(**way).fit(events)
    found = {row["query_id"]: row["recommended"] for row in model.transform(queries).collect()}
    assert {item: given[0]["item_id"] for item, given in found.items()} == {
        item: (item + 1) % ITEMS for item in range(ITEMS)
    }


def test_the_whole_history_is_read_beside_a_column_of_a_few_items(
    spark: SparkSession, events: DataFrame
) -> None:
    """Tables made for two-tower models have `recent_item_ids`, which is too short for these."""
    model = gru4rec(**WINDOWS, epochs=1).fit(events)
    history = [0, 4, 2, 7, 5]
    rows = [(1, history, history[-1:])]
    schema = "query_id long, history array<long>, recent_item_ids array<long>"
    both = spark.createDataFrame(rows, schema)
    last = both.withColumn("history", both["recent_item_ids"])
    score_alone, score_beside, score_last = (
        model.transform(frame).first()["recommended"][0]["score"]
        for frame in (both.drop("recent_item_ids"), both, last)
    )
    assert score_beside == pytest.approx(score_alone, abs=1e-5)
    assert score_last != pytest.approx(score_alone, abs=1e-4)


def test_short_lists_in_train_are_nothing_to_warn_of(
    events: DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    """Windows are made of the events, not of the column that two-tower models read."""
    lists = events.selectExpr("*", "array(item_id) AS recent_item_ids")
    gru4rec(**WINDOWS, epochs=1).fit(lists)
    assert "but the model reads up to" not in caplog.text


def test_answers_do_not_depend_on_who_else_asks(events: DataFrame) -> None:
    """Histories are read with others of like length, and each gets its own answer."""
    network = gru4rec(**WINDOWS, epochs=1).fit(events).parts.network
    rng = np.random.default_rng(0)
    histories = rng.integers(2, ITEMS + 2, (600, 5))
    histories[np.arange(5) >= rng.integers(0, 6, 600)[:, None]] = 0
    together = network.user_vectors(histories)
    for row in (0, 17, 300, 599):
        alone = network.user_vectors(histories[row : row + 1])[0]
        assert np.allclose(together[row], alone, atol=1e-5)


def test_validation_reads_the_whole_history(spark: SparkSession, events: DataFrame) -> None:
    history = [[item, (item + 1) % ITEMS, (item + 2) % ITEMS] for item in range(ITEMS)]
    rows = [
        (number, past, past[:1], [(past[-1] + 1) % ITEMS]) for number, past in enumerate(history)
    ]
    schema = "query_id long, history array<long>, recent_item_ids array<long>, relevant array<long>"
    validation = spark.createDataFrame(rows, schema)
    model = gru4rec(
        **WINDOWS, epochs=8, validation=validation, early_stopping=EarlyStopping("recall@1", 8)
    ).fit(events)
    assert max(entry.get("recall@1", 0) for entry in model.fit_report["history"]) == 1


@pytest.mark.slow
def test_a_resumed_run_side_by_side_ends_at_the_same_vectors(
    events: DataFrame, tmp_path: Path
) -> None:
    whole = gru4rec(**SIDE_BY_SIDE, epochs=3).fit(events)
    path = str(tmp_path / "work")
    gru4rec(**SIDE_BY_SIDE, epochs=2, work_path=path).fit(events)
    resumed = gru4rec(**SIDE_BY_SIDE, epochs=3, work_path=path, resume=True).fit(events)
    assert (resumed.item_vectors == whole.item_vectors).all()


def test_a_schedule_follows_the_sessions_that_have_begun(
    events: DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first step to the last: all sessions of all epochs."""
    done: list[float] = []

    def record(optimizers: Any, training: Any, step: int, steps: int) -> None:
        done.append(step / steps)
        set_learning_rate(optimizers, training, step, steps)

    monkeypatch.setattr("sparkrec.training.loop.set_learning_rate", record)
    gru4rec(**SIDE_BY_SIDE, epochs=2, schedule="linear").fit(events)
    assert 0 < done[0] < 0.1
    assert done == sorted(done)
    assert done[-1] == 1
    assert 0.5 in done


@pytest.mark.slow
def test_early_stopping_holds_out_each_users_last_event(events: DataFrame) -> None:
    model = gru4rec(
        **WINDOWS, epochs=2, early_stopping=EarlyStopping(metric="recall@5"), fallback="none"
    ).fit(events)
    phases = [entry["phase"] for entry in model.fit_report["history"]]
    assert phases[:1] == ["fit"] and "refit" in phases
    assert "recall@5" in model.fit_report["history"][0]


def baskets(spark: SparkSession) -> DataFrame:
    """Sixty users buy two items in a basket: 2n and 2n + 1 follow 2n - 2 and 2n - 1 of seven pairs.

    In the table the lower item of a basket always stands first.
    """
    rows = [
        (
            user,
            2 * ((user + basket) % 7) + item,
            f"{user} {basket}",
            basket,
            20 * user + 2 * basket + item,
        )
        for user in range(60)
        for basket in range(2 + user % 4)
        for item in range(2)
    ]
    schema = "user_id long, item_id long, basket string, timestamp long, position long"
    return spark.createDataFrame(rows, schema).coalesce(1)


def test_an_event_is_predicted_from_earlier_sessions(spark: SparkSession) -> None:
    """The higher item of a basket follows the lower one only without `by_session`."""
    events = baskets(spark)
    rows = [(n, [2 * n, 2 * n + 1]) for n in range(7)] + [(7 + n, [2 * n]) for n in range(7)]
    queries = spark.createDataFrame(rows, "query_id long, history array<long>").coalesce(1)

    def found(**params: Any) -> dict[int, set[int]]:
        model = gru4rec(**WINDOWS, session_col="basket", k=2, epochs=15, **params).fit(events)
        return {
            row["query_id"]: {item["item_id"] for item in row["recommended"]}
            for row in model.transform(queries).collect()
        }

    by_session, by_place = found(by_session=True), found()
    for n in range(7):
        following = 2 * ((n + 1) % 7)
        assert by_session[n] == {following, following + 1}
        assert 2 * n + 1 in by_place[7 + n] and 2 * n + 1 not in by_session[7 + n]


def test_mistakes_of_sessions(spark: SparkSession, events: DataFrame) -> None:
    with pytest.raises(ConfigError, match="by_session needs `session` among the columns"):
        gru4rec(by_session=True).fit(events)
    with pytest.raises(DataError, match="no column basket"):
        gru4rec(by_session=True, session_col="basket").fit(events)
    with pytest.raises(
        DataError, match=r"no user of train has events of two sessions \(column `ba"
    ):
        gru4rec(by_session=True, session_col="basket").fit(baskets(spark).where("timestamp = 0"))
    with pytest.raises(ConfigError, match="by_session is for sequence models; DSSM reads the hist"):
        DSSM(by_session=True).fit(events)


def test_mistakes(events: DataFrame) -> None:
    with pytest.raises(ConfigError, match="given is for two-tower models"):
        gru4rec(negatives="given").fit(events)
    with pytest.raises(
        ConfigError, match=r"session_parallel carries a hidden state .* SASRec does not have"
    ):
        SASRec(max_len=5, session_parallel=True).fit(events)
    with pytest.raises(DataError, match="the column `label`"):
        gru4rec().fit(events.selectExpr("*", "1 AS label"))
    with pytest.raises(DataError, match="no user of train has two events"):
        gru4rec().fit(events.where("timestamp = 0"))


def test_events_of_weight_zero_teach_nothing(events: DataFrame, queries: DataFrame) -> None:
    """Users go round the other way too, without weight; equal weights are no weights."""
    back = events.selectExpr("user_id + 60", "-item_id % 9 + 8", "timestamp", "position + 2000")
    mixed = events.selectExpr("*", "2 AS worth").union(back.selectExpr("*", "0 AS worth"))
    model = gru4rec(**WINDOWS, weight_col="worth").fit(mixed)
    found = {row["query_id"]: row["recommended"] for row in model.transform(queries).collect()}
    assert {item: given[0]["item_id"] for item, given in found.items()} == {
        item: (item + 1) % ITEMS for item in range(ITEMS)
    }
    with pytest.raises(ValueError, match=r"loss\.weight_col must be left out with training\.sess"):
        gru4rec(**SIDE_BY_SIDE, weight_col="worth").fit(mixed)
    with pytest.raises(DataError, match="train has no column `wort`"):
        gru4rec(**WINDOWS, weight_col="wort").fit(mixed)

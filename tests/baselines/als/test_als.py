"""ALS: MLlib's vectors, the same ones folded in from a history, and what weighs in a history."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from answers import assert_same_answers, assert_same_ranking, ranked
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines.als import _mllib
from sparkrec.baselines.als.als import ALS, ALSConfig, ALSModel
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import DataError
from sparkrec.io import storage
from sparkrec.retrieval.answering.als import ALSSearcher
from sparkrec.retrieval.answering.fold_in import FoldIn, Objective, Ratings, Weighting
from sparkrec.retrieval.search import topk

USERS, ITEMS = 30, 12
SMALL: dict[str, Any] = {"rank": 3, "max_iter": 2, "num_user_blocks": 2, "num_item_blocks": 2}
EVENTS = "user_id long, item_id long, rating double, timestamp long, position long"


def had(user: int) -> list[int]:
    """Between two and nine items; even users have the lower half more often, odd ones the upper."""
    rng = np.random.default_rng(user)
    shares = np.where(np.arange(ITEMS) // 6 == user % 2, 5.0, 1.0)
    return [int(i) for i in rng.choice(ITEMS, 2 + user % 8, False, shares / shares.sum())]


@pytest.fixture(scope="module")
def train(spark: SparkSession) -> DataFrame:
    pairs = [(user, item) for user in range(USERS) for item in had(user)]
    rows = [(user, item, 1.0 + item % 3, at, at) for at, (user, item) in enumerate(pairs)]
    return spark.createDataFrame(rows, EVENTS).coalesce(2).cache()


@pytest.fixture(scope="module")
def model(train: DataFrame) -> ALSModel:
    fitted = ALS(**SMALL).fit(train)
    assert isinstance(fitted, ALSModel)
    return fitted


def user_vectors(model: ALSModel) -> dict[Any, list[float]]:
    return {row[_mllib.USER]: row[_mllib.FACTOR] for row in model.user_vectors.collect()}


def histories(lists: list[list[int] | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"history": pa.array(lists, pa.list_(pa.int64()))})


def queries(spark: SparkSession, *rows: tuple[int, int | None, list[int] | None]) -> DataFrame:
    schema = "query_id long, user_id long, history array<long>"
    return spark.createDataFrame(list(rows), schema).coalesce(1)


def answers(frame: DataFrame) -> dict[Any, list[tuple[Any, float]]]:
    return {
        row["query_id"]: [(entry["item_id"], entry["score"]) for entry in row["recommended"]]
        for row in frame.collect()
    }


# ------------------------------------------------------------------------------ folding in


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"alpha": 7.5, "reg_param": 0.01},
        {"nonnegative": True},
        {"implicit_prefs": False},
    ],
    ids=str,
)
def test_the_history_of_train_gives_the_users_own_vector(
    train: DataFrame, params: dict[str, Any]
) -> None:
    """MLlib solves for users last, so its vectors are the solutions for the final items."""
    fitted = ALS(**SMALL, **params).fit(train)
    folded, known = fitted.searcher().vectors(histories([had(user) for user in range(USERS)]))
    own = user_vectors(fitted)
    assert known.all()
    assert sorted(own) == list(range(USERS))
    np.testing.assert_allclose(folded, [own[u] for u in range(USERS)], rtol=2e-3, atol=2e-4)


@pytest.mark.slow
def test_events_of_a_pair_are_summed_or_count_once(spark: SparkSession, train: DataFrame) -> None:
    """User 3 has its first item twice more, in train and in the history."""
    again = spark.createDataFrame([(3, had(3)[0], 2.0, 999, 999)] * 2, EVENTS)
    events = train.unionByName(again)
    asked = histories([[*had(3), had(3)[0], had(3)[0]]])
    vectors = {}
    for how in ("sum", "once"):
        fitted = ALS(**SMALL, alpha=4, duplicates=how).fit(events)
        vectors[how] = user_vectors(fitted)[3]
        folded, _ = fitted.searcher().vectors(asked)
        np.testing.assert_allclose(folded[0], vectors[how], rtol=2e-3, atol=2e-4)
    plain = user_vectors(ALS(**SMALL, alpha=4).fit(train))[3]
    np.testing.assert_allclose(vectors["once"], plain, rtol=1e-6)
    assert not np.allclose(vectors["sum"], plain, rtol=1e-2)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_folded_vector_minimises_the_objective(data: st.DataObject) -> None:
    """An event of weight w is w of an event and 1 - w of a missing one."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rank, items, implicit = 4, 9, data.draw(st.booleans())
    reg, alpha = data.draw(st.floats(0.01, 1)), data.draw(st.floats(0, 20))
    vectors = rng.normal(size=(items, rank)).astype(np.float32)
    chosen = rng.choice(items, data.draw(st.integers(1, items)), replace=False)
    weights, values = rng.uniform(0.05, 1, len(chosen)), rng.uniform(0.1, 5, len(chosen))
    ratings = Ratings(np.zeros(len(chosen), np.int64), chosen, weights, weights * values)
    found = FoldIn(vectors, Objective(reg, alpha, implicit, False)).solve(ratings, 2)

    def loss(x: Any) -> float:
        """Hu et al., equation 3, for one user; or the squared error of the ratings."""
        scores = vectors.astype(float) @ x
        total = reg * weights.sum() * (x @ x)
        if implicit:
            total += (np.delete(scores, chosen) ** 2).sum()
            liked = (1 + alpha * values) * (1 - scores[chosen]) ** 2
            return float(total + (weights * liked + (1 - weights) * scores[chosen] ** 2).sum())
        return float(total + (weights * (values - scores[chosen]) ** 2).sum())

    best = loss(found[0].astype(float))
    for step in 0.01 * np.concatenate([np.eye(rank), -np.eye(rank)]):
        assert loss(found[0] + step) > best
    assert not found[1].any()


def test_users_are_solved_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    fold_in = FoldIn(rng.normal(size=(8, 5)).astype(np.float32), Objective(0.1, 2, True, False))
    rows = np.repeat(np.arange(0, 20, 2), 3)
    ratings = Ratings(rows, rng.integers(0, 8, len(rows)), np.ones(len(rows)), np.ones(len(rows)))
    whole = fold_in.solve(ratings, 20)
    monkeypatch.setattr("sparkrec.retrieval.answering.fold_in._CHUNK_BYTES", 8 * 5 * 5 * 3)
    np.testing.assert_allclose(fold_in.solve(ratings, 20), whole, rtol=1e-5, atol=1e-5)
    assert np.array_equal(np.flatnonzero(whole.any(axis=1)), np.arange(0, 20, 2))


# --------------------------------------------------------------------- what a history weighs


def test_weights_fall_with_age() -> None:
    """User 0 had 5, 6, 5, 7 in that order, user 2 had 6."""
    events = np.array([0, 0, 0, 0, 2]), np.array([5, 6, 5, 7, 6])
    summed = Weighting(0.5, 0, rating=3.0, once=False).ratings(*events)
    assert summed.rows.tolist() == [0, 0, 0, 2]
    assert summed.items.tolist() == [5, 6, 7, 6]
    assert summed.weights.tolist() == [0.5, 0.25, 1, 1]
    assert summed.values.tolist() == [3 * (0.5 + 0.125), 3 * 0.25, 3, 3]
    once = Weighting(0.5, 0, rating=3.0, once=True).ratings(*events)
    assert once.items.tolist() == [5, 6, 7, 6]
    assert once.weights.tolist() == [0.5, 0.25, 1, 1]
    assert once.values.tolist() == [1.5, 0.75, 3, 3]
    recent = Weighting(0.5, 2, rating=3.0, once=False).ratings(*events)
    assert (recent.items.tolist(), recent.values.tolist()) == ([5, 7, 6], [1.5, 3, 3])


@given(
    st.lists(st.lists(st.integers(0, 4), max_size=8), max_size=4),
    st.sampled_from([1.0, 0.5, 1e-200]),
    st.integers(0, 5),
    st.booleans(),
)
def test_weights_are_those_of_a_plain_loop(
    lists: list[list[int]], decay: float, max_history: int, once: bool
) -> None:
    expected = []
    for row, items in enumerate(lists):
        if once:
            items = [item for at, item in enumerate(items) if item not in items[at + 1 :]]
        weights: dict[int, list[float]] = {}
        for age, item in enumerate(reversed(items)):
            if decay**age > 0 and (not max_history or age < max_history):
                weights.setdefault(item, []).append(decay**age)
        expected += [(row, i, w[0], pytest.approx(2 * sum(w))) for i, w in sorted(weights.items())]
    rows = np.repeat(np.arange(len(lists)), [len(items) for items in lists]).astype(np.int64)
    flat = np.array([item for items in lists for item in items], np.int64)
    found = Weighting(decay, max_history, 2.0, once).ratings(rows, flat)
    columns = (found.rows, found.items, found.weights, found.values)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected


@pytest.mark.slow
def test_what_a_user_did_last_decides_with_decay(model: ALSModel) -> None:
    """The user went over from the lower half of the items to the upper one."""
    asked = histories([[0, 1, 2, 3, 9, 10]])
    upper_to_lower = []
    for params in ({}, {"decay": 0.1}, {"max_history": 2}):
        searcher = model.copy().set_params(**params).searcher()
        scores = model.item_vectors @ searcher.vectors(asked)[0][0]
        upper_to_lower.append(scores[6:].mean() - scores[:6].mean())
    assert upper_to_lower[0] < 0
    assert min(upper_to_lower[1:]) > 0


# ------------------------------------------------------------------------- events to vectors


@pytest.mark.slow
def test_ratings_weigh_the_pairs(spark: SparkSession, train: DataFrame, model: ALSModel) -> None:
    rated = ALS(**SMALL, rating_col="rating").fit(train)
    assert rated.mean_rating == pytest.approx(train.selectExpr("avg(rating)").head()[0])
    assert model.mean_rating == 1
    assert not np.allclose(rated.item_vectors, model.item_vectors, rtol=0.01)


@pytest.mark.slow
def test_events_without_a_part_do_not_count(
    spark: SparkSession, train: DataFrame, model: ALSModel
) -> None:
    """An item that only they have is in the catalogue, with a vector of zeros."""
    parts = [(None, 3, 1.0, 1, 1), (4, None, 1.0, 1, 1), (None, 50, 1.0, 1, 1)]
    fitted = ALS(**SMALL).fit(train.unionByName(spark.createDataFrame(parts, EVENTS)))
    assert fitted.catalogue.ids.to_pylist() == [*range(ITEMS), 50]
    assert not fitted.item_vectors[ITEMS].any()
    np.testing.assert_allclose(fitted.item_vectors[:ITEMS], model.item_vectors, rtol=1e-5)


@pytest.mark.slow
def test_ids_of_any_type(train: DataFrame) -> None:
    """The model of text ids answers as that of numbers whose order is the same."""
    named = train.selectExpr(
        "concat('ü ', lpad(user_id, 3, '0')) AS user_id",
        "concat('電影-', lpad(item_id, 3, '0')) AS item_id",
    )
    fitted = ALS(**SMALL, implicit_prefs=False, reg_param=0.05).fit(named)
    own = user_vectors(fitted)
    assert len(own) == USERS
    asked = named.groupBy("user_id").agg({"item_id": "collect_list"})
    asked = asked.toDF("user_id", "history").selectExpr("user_id AS query_id", "*")
    vectors = dict(zip(fitted.catalogue.ids.to_pylist(), fitted.item_vectors, strict=True))
    wanted = {}
    for user, history in asked.select("user_id", "history").collect():
        scores = {i: float(np.dot(own[user], v)) for i, v in vectors.items() if i not in history}
        wanted[user] = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
    assert_same_answers(answers(fitted.copy().set_params(k=3).transform(asked)), wanted)


@pytest.mark.slow
def test_neither_order_nor_partitions_of_train_matter(train: DataFrame, model: ALSModel) -> None:
    again = ALS(**SMALL).fit(train.orderBy("item_id", "timestamp").repartition(5, "item_id"))
    assert np.array_equal(again.item_vectors, model.item_vectors)
    assert user_vectors(again) == user_vectors(model)
    other = ALS(**SMALL, seed=1).fit(train)
    assert not np.array_equal(other.item_vectors, model.item_vectors)


@pytest.mark.slow
def test_checkpoints_are_written_and_removed(
    spark: SparkSession, train: DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the checkpoint directory that the context had is its own again."""
    context = spark.sparkContext._jsc.sc()
    before = context.getCheckpointDir().isEmpty()
    written: list[int] = []
    remove = storage.remove

    def watch(path: str) -> None:
        written.append(len(storage.list_files(path)))
        remove(path)

    monkeypatch.setattr(storage, "remove", watch)
    for interval in (1, -1):
        params = {**SMALL, "checkpoint_interval": interval}
        ALS(**params, work_path=str(tmp_path / "work")).fit(train)
    assert written[0] > 0
    assert written[1] == 0
    assert not storage.list_files(str(tmp_path))
    assert context.getCheckpointDir().isEmpty() == before


# --------------------------------------------------------------------------------- answering


def test_users_of_train_get_their_own_vectors_and_others_their_history(
    spark: SparkSession, model: ALSModel
) -> None:
    """A history that says the opposite of what user 0 did in train."""
    upper = [6, 7, 8]
    asked = queries(spark, (0, 0, upper), (1, 777, upper), (2, None, upper))
    ask = {"k": 4, "exclude_seen": False}
    own = answers(model.copy().set_params(**ask).transform(asked))
    folded = answers(model.copy().set_params(fold_in="history", **ask).transform(asked))
    scores = model.item_vectors @ np.array(user_vectors(model)[0], np.float32)
    best = np.argsort(-scores)[:4]
    assert_same_ranking(own[0], ranked(best, scores[best]))
    for answer in (own[1], own[2], folded[1], folded[2]):
        assert_same_ranking(answer, folded[0])
    assert {item for item, _ in own[0]} != {item for item, _ in folded[0]}
    without_users = asked.drop("user_id")
    again = answers(model.copy().set_params(fold_in="history", **ask).transform(without_users))
    assert_same_answers(again, folded)


def test_who_is_unknown_gets_nothing_without_a_fallback(
    spark: SparkSession, model: ALSModel
) -> None:
    asked = queries(spark, (0, 777, []), (1, 777, [99]), (2, None, None), (3, 777, [1]))
    found = answers(model.copy().set_params(fallback="none", k=50).transform(asked))
    assert [len(found[query]) for query in range(4)] == [0, 0, 0, ITEMS - 1]


@pytest.mark.parametrize("chunk", [1, 7 * ITEMS, 1 << 24])
def test_answers_are_the_best_by_product_of_those_allowed(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the chunk of scores; equal vectors are told apart by the raw id."""
    monkeypatch.setattr(topk, "_CHUNK_SCORES", chunk)
    rng = np.random.default_rng(4)
    ids = rng.permutation(ITEMS)
    vectors = rng.integers(-1, 2, (ITEMS, 2)).astype(np.float32)
    fold_in = FoldIn(vectors, Objective(0.1, 1, True, False))
    catalogue = Catalogue(pa.array(ids), np.ones(ITEMS, np.int64))
    searcher = ALSSearcher(catalogue, fold_in, Weighting(1, 0, 1, False), "history")
    lists = [[int(i) for i in rng.choice(ids, 1 + row % 4, False)] for row in range(25)]
    batch = histories([*lists, []])
    allowed = np.arange(ITEMS) % 5 > 0
    places = {int(raw): place for place, raw in enumerate(ids)}
    seen = [(row, places[raw]) for row, raws in enumerate(lists) for raw in raws]
    rows, items = (np.array(column) for column in zip(*seen, strict=True))
    scores, found = searcher.search(batch, 20, (rows, items), allowed)
    queried, _ = searcher.vectors(batch)
    for row, raws in enumerate(lists):
        free = [p for p in range(ITEMS) if allowed[p] and int(ids[p]) not in raws]
        product = {p: float(vectors[p] @ queried[row]) for p in free}
        expected = sorted(free, key=lambda p: (-product[p], ids[p]))
        assert_same_ranking(ranked(found[row], scores[row]), [(p, product[p]) for p in expected])
        for vector in np.unique(vectors, axis=0):
            equal = [int(ids[p]) for p in found[row] if p >= 0 and (vectors[p] == vector).all()]
            assert equal == sorted(equal)
    assert (found[25] == -1).all()
    assert searcher.answers(batch).tolist() == [True] * 25 + [False]


# ----------------------------------------------------------------------------------- mistakes


def test_queries_without_users(spark: SparkSession, model: ALSModel) -> None:
    asked = queries(spark, (0, 1, [1])).drop("user_id")
    with pytest.raises(DataError, match=r"no column `user_id`.*fold_in: history"):
        model.transform(asked)
    with pytest.raises(DataError, match=r"`user_id` is string, but in train it was bigint"):
        model.transform(asked.selectExpr("*", "'one' AS user_id"))
    with pytest.raises(DataError, match="queries have no `history` column"):
        model.transform(queries(spark, (0, 1, [1])).drop("history"))


def test_train_that_cannot_be_factorised(spark: SparkSession, train: DataFrame) -> None:
    with pytest.raises(DataError, match=r"train has no column `stars` .it has user_id, item_id"):
        ALS(rating_col="stars").fit(train)
    with pytest.raises(DataError, match=r"column `user_id` is double, but must be"):
        ALS().fit(train.selectExpr("double(user_id) AS user_id", "item_id"))
    disliked = train.selectExpr("user_id", "item_id", "-rating AS rating")
    with pytest.raises(DataError, match="no event with a user, an item and a rating above 0"):
        ALS(rating_col="rating").fit(disliked)
    infinite = train.selectExpr("user_id", "item_id", "double('inf') AS rating")
    with pytest.raises(DataError, match="ratings that are infinite"):
        ALS(rating_col="rating").fit(infinite)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rank", 0, "rank must be at least 1"),
        ("max_iter", 0, "max_iter must be at least 1"),
        ("reg_param", 0.0, "reg_param must be above 0"),
        ("alpha", -1.0, "alpha must be at least 0"),
        ("decay", 1.5, "decay must be "),
        ("max_history", -1, "max_history must be at least 0"),
        ("checkpoint_interval", 0, "checkpoint_interval must be at least 1, or -1"),
        ("fold_in", "both", "fold_in must be factors or history"),
        ("duplicates", "mean", "duplicates must be sum or once"),
    ],
)
def test_params_out_of_range(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALSConfig(**{name: value})
    with pytest.raises(ValueError, match=message):
        ALS(**{name: value})


def test_a_config_gives_the_params(model: ALSModel) -> None:
    estimator = ALS(ALSConfig(rank=5, decay=0.9), max_iter=2)
    assert estimator.config == ALSConfig(rank=5, decay=0.9, max_iter=2)
    assert model.config == ALSConfig(**SMALL)

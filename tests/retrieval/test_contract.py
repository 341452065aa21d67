"""What every retriever must do, counted or neural.

The data is a checkerboard: users and items have a colour, and users only take items of theirs.
Each user lacks a few items of the own colour, so what a personal model must give is known. A new
retriever joins with one line in `CASES`.
"""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answers import assert_same_answers, assert_same_ranking
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines.als.als import ALS
from sparkrec.baselines.item_to_item.item_cf import ItemCF
from sparkrec.baselines.item_to_item.swing import Swing
from sparkrec.baselines.popularity.global_hot import GlobalHot
from sparkrec.baselines.popularity.personal_top import PersonalTop
from sparkrec.errors import StorageError
from sparkrec.io.outputs import resolve
from sparkrec.retrieval import answering
from sparkrec.retrieval.answering.als import ALSSearcher
from sparkrec.retrieval.base import RetrievalModel, Retriever
from sparkrec.schema.parser import feature_schema
from sparkrec.spark_versions import to_arrow
from sparkrec.training.retrievers import DSSM, HRM, SSR, GRU4Rec, SASRec, SimpleX

COLOURS, USERS, ITEMS, LACKING, ROUNDS = 2, 24, 20, 2, 3
STRANGER = 9999
QUERY = "query_id long, user_id long, history array<long>"

ALL = {"exclude_seen": False, "k": ITEMS}
ALL_UNSEEN = {"exclude_seen": True, "k": ITEMS, "fallback": "global_hot"}

Answers = dict[int, list[tuple[int, float]]]


@dataclass(frozen=True)
class Case:
    """A retriever with params that train it in seconds, and what can be asked of it.

    Attributes
    ----------
    personal
        It gives other items to other users.
    seen_again
        What it gives a user first, where seen items may be given, are items that the user had.
    by_history
        It knows users by the query's history alone.
    vectors
        Its scores are products of vectors, whose last digits depend on the rest of a batch.
    """

    make: Callable[..., Retriever]
    personal: bool = True
    seen_again: bool = False
    by_history: bool = False
    vectors: bool = False


def small_dssm(**params: Any) -> Retriever:
    """Too small to learn by heart which items of its colour a user lacks: those are negatives."""
    settings = {
        "embedding_dim": 8,
        "hidden": (8,),
        "epochs": 10,
        "batch_size": 64,
        "learning_rate": 0.02,
        "temperature": 0.5,
        "num_negatives": 8,
        "early_stopping": None,
    }
    return DSSM(**{**settings, "seed": 3, **params})


def small(make: Callable[..., Retriever], **settings: Any) -> Callable[..., Retriever]:
    """A neural retriever that learns the checkerboard in a second or two."""
    common = {"embedding_dim": 8, "learning_rate": 0.02, "early_stopping": None, "seed": 3}
    return partial(make, **{**common, **settings})


def content_gru4rec(**params: Any) -> Retriever:
    """Reads the colour of an item beside its id."""
    rows = [(item, f"colour {colour(item)}") for item in range(ITEMS)]
    items = SparkSession.active().createDataFrame(rows, "item_id long, colour string")
    declared = feature_schema("item_id\ncolour", "columns", "item_id\ncolour", "features")
    read = {"items": items, "item_schema": declared, "model_items": "both", "id_dropout": 0.1}
    return small(GRU4Rec, hidden=(8,), **SEQUENCE)(**read, **params)


# Few steps over few windows: every epoch is a handful of batches.
SEQUENCE = {"max_len": 30, "epochs": 20, "batch_size": 8}
BAG = {"max_len": 10, "epochs": 10, "batch_size": 64, "num_negatives": 8}

CASES = {
    "global_hot": Case(GlobalHot, personal=False),
    # A segment of one user: what the user had, by count, then the overall list.
    "global_hot_segments": Case(
        partial(GlobalHot, segment=["user_id"]), personal=False, seen_again=True
    ),
    "personal_top": Case(PersonalTop, personal=False, seen_again=True),
    "item_cf": Case(ItemCF, by_history=True),
    "swing": Case(Swing, by_history=True),
    "als": Case(
        partial(ALS, rank=4, max_iter=5, num_user_blocks=2, num_item_blocks=2), vectors=True
    ),
    "dssm": Case(small_dssm, vectors=True),
    "simplex": Case(small(SimpleX, loss="ccl", margin=0.0, temperature=1.0, **BAG), vectors=True),
    "hrm": Case(small(HRM, loss="softmax", temperature=0.5, **BAG), vectors=True),
    "gru4rec": Case(
        small(GRU4Rec, hidden=(8,), dropout_hidden=0.3, **SEQUENCE), by_history=True, vectors=True
    ),
    "gru4rec_both": Case(content_gru4rec, by_history=True, vectors=True),
    "ssr": Case(
        small(SSR, hidden=(8,), long_term="recurrent", slow_steps=3, **SEQUENCE),
        by_history=True,
        vectors=True,
    ),
    "sasrec": Case(
        partial(SASRec, dim=8, learning_rate=0.02, early_stopping=None, seed=3, **SEQUENCE),
        by_history=True,
        vectors=True,
    ),
}


def colour(key: int) -> int:
    return key % COLOURS


def own_items(user: int) -> list[int]:
    """The items that a user had, oldest first: those of the own colour, but for two of them."""
    same = [item for item in range(ITEMS) if colour(item) == colour(user)]
    start = user // COLOURS % len(same)
    turned = same[start:] + same[:start]
    return turned[LACKING:]


def own_items_in_rounds(user: int) -> list[int]:
    """Three times all items of a user, each time in another order: order says nothing."""
    chance = random.Random(user)
    items = own_items(user)
    return [item for _ in range(ROUNDS) for item in chance.sample(items, len(items))]


def lacking_items(user: int) -> set[int]:
    same = {item for item in range(ITEMS) if colour(item) == colour(user)}
    return same - set(own_items(user))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def train(spark: SparkSession) -> Iterator[DataFrame]:
    events = [
        (user, item, moment, user * ITEMS * ROUNDS + moment)
        for user in range(USERS)
        for moment, item in enumerate(own_items_in_rounds(user))
    ]
    schema = "user_id long, item_id long, timestamp long, position long"
    frame = spark.createDataFrame(events, schema).coalesce(2).cache()
    yield frame
    frame.unpersist()


# Beside the users' own queries, by query id: a user, and a history.
ODD_QUERIES: dict[int, tuple[int | None, list[int | None] | None]] = {
    # The histories of user 4 and of user 5, asked by someone new and by nobody.
    100: (STRANGER, own_items(4)),
    101: (STRANGER, own_items(5)),
    102: (None, own_items(5)),
    # A user of train without a history.
    110: (4, []),
    111: (5, None),
    # Nobody knows anything about these.
    120: (STRANGER, []),
    121: (STRANGER, [STRANGER]),
    122: (None, None),
    # More strangers at the end than a feature of recent items would hold.
    130: (4, [STRANGER, *own_items(4)[:2], None, *own_items(4)[2:], *[STRANGER] * 12]),
    # Items that train lacks.
    140: (4, [STRANGER, STRANGER + 1]),
}


@pytest.fixture(scope="module")
def queries(spark: SparkSession) -> DataFrame:
    own = [(user, user, own_items(user)) for user in range(USERS)]
    odd = [(query, user, history) for query, (user, history) in ODD_QUERIES.items()]
    return spark.createDataFrame([*own, *odd], QUERY).coalesce(1).cache()


# Similar to the other cases, and left to `make test-all`.
ALIKE = {"global_hot", "simplex", "hrm", "sasrec", "ssr", "gru4rec_both"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=[pytest.mark.slow] if n in ALIKE else []) for n in CASES],
)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def model(case: Case, train: DataFrame) -> RetrievalModel:
    return case.make(k=LACKING).fit(train)


def answers(model: RetrievalModel, queries: DataFrame, **params: Any) -> Answers:
    """The answers, by query, of a model that is asked with these params."""
    answered = model.copy().set_params(**params).transform(queries)
    return {
        row["query_id"]: [(entry["item_id"], entry["score"]) for entry in row["recommended"]]
        for row in answered.collect()
    }


@pytest.fixture(scope="module")
def ask(model: RetrievalModel, queries: DataFrame) -> Callable[..., Answers]:
    """`ask(**params)`: the model's answers to all queries, computed once for each set of params."""
    known: dict[str, Answers] = {}

    def ask(**params: Any) -> Answers:
        key = repr(sorted(params.items()))
        if key not in known:
            known[key] = answers(model, queries, **params)
        return known[key]

    return ask


def of_users(found: Answers) -> Answers:
    """The answers to the users' own queries alone."""
    return {user: found[user] for user in range(USERS)}


def items_of(found: Answers) -> dict[int, list[int]]:
    return {query: [item for item, _ in given] for query, given in found.items()}


def test_every_query_is_answered(ask: Callable[..., Answers]) -> None:
    assert sorted(ask()) == [*range(USERS), *ODD_QUERIES]


def test_unseen_items_of_the_users_own_colour_come_first(
    case: Case, ask: Callable[..., Answers]
) -> None:
    found = items_of(of_users(ask()))
    if not case.personal:
        assert all(len(given) == LACKING for given in found.values())
        return
    hits = sum(len(lacking_items(user) & set(given)) for user, given in found.items())
    assert hits == USERS * LACKING


def test_seen_items_are_given_unless_excluded(case: Case, ask: Callable[..., Answers]) -> None:
    everything = items_of(of_users(ask(**ALL)))
    for user, given in everything.items():
        assert sorted(given) == list(range(ITEMS))
        if case.personal:
            half = given[: ITEMS // COLOURS]
            assert {colour(item) for item in half} == {colour(user)}
        if case.seen_again:
            assert set(given[: len(own_items(user))]) == set(own_items(user))
    for user, given in items_of(of_users(ask(**ALL_UNSEEN))).items():
        assert not set(given) & set(own_items(user))
        assert sorted(given + own_items(user)) == list(range(ITEMS))


def test_scores_fall_and_items_are_distinct(ask: Callable[..., Answers]) -> None:
    for given in ask(**ALL).values():
        scores = [score for _, score in given]
        assert scores == sorted(scores, reverse=True)
        assert len({item for item, _ in given}) == len(given)


def test_excluding_seen_items_changes_nothing_else(case: Case, ask: Callable[..., Answers]) -> None:
    kept = of_users(ask(**ALL))
    excluded = ask(**ALL_UNSEEN)
    for user, given in kept.items():
        rest = [(item, score) for item, score in given if item not in own_items(user)]
        if case.seen_again:  # the scores of other items say how many came before
            assert [item for item, _ in rest] == [item for item, _ in excluded[user]]
        else:
            assert_same_ranking(excluded[user], rest)


def test_k_larger_than_the_catalogue(ask: Callable[..., Answers]) -> None:
    """And items that train lacks are never given, to whoever has them in the history."""
    found = items_of(ask(exclude_seen=False, k=10 * ITEMS))
    assert all(sorted(given) == list(range(ITEMS)) for given in found.values())


def test_only_candidates_are_given(ask: Callable[..., Answers]) -> None:
    found = items_of(ask(exclude_seen=False, k=5, candidates=[1, 2, 5, STRANGER]))
    assert all(sorted(given) == [1, 2, 5] for given in found.values())


def test_a_user_never_seen_is_answered_from_the_history(
    case: Case, ask: Callable[..., Answers]
) -> None:
    found = items_of(ask())
    for query, user in ((100, 4), (101, 5), (102, 5)):
        assert len(found[query]) == LACKING
        if case.personal:
            assert {colour(item) for item in found[query]} == {colour(user)}


def test_an_empty_history_and_a_null_one(case: Case, ask: Callable[..., Answers]) -> None:
    found = items_of(ask())
    for query, user in ((110, 4), (111, 5)):
        assert len(found[query]) == LACKING
        if case.personal and not case.by_history:
            assert {colour(item) for item in found[query]} == {colour(user)}


def test_who_is_quite_unknown_gets_the_fallback(ask: Callable[..., Answers]) -> None:
    """Popular items by count, ties by id, as every retriever gives them."""
    found = items_of(ask(**ALL_UNSEEN))
    counts = [sum(item in own_items(user) for user in range(USERS)) for item in range(ITEMS)]
    popular = sorted(range(ITEMS), key=lambda item: (-counts[item], item))
    assert [found[query] for query in (120, 121, 122)] == [popular] * 3


def test_strangers_and_nulls_in_the_history_change_nothing(ask: Callable[..., Answers]) -> None:
    assert_same_ranking(ask()[130], ask()[4])


def test_every_column_of_a_query_comes_back(model: RetrievalModel, queries: DataFrame) -> None:
    wider = queries.selectExpr("*", "'note' AS note")
    answered = model.transform(wider)
    assert answered.columns == [*wider.columns, "recommended"]
    kind = answered.schema["recommended"].dataType.simpleString()
    assert kind == "array<struct<item_id:bigint,score:double>>"
    assert answered.drop("recommended").exceptAll(wider).count() == 0


@pytest.fixture(scope="module")
def saved(model: RetrievalModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "my model"
    model.save(str(path))
    return path


def test_save_and_load_give_the_same_answers(
    model: RetrievalModel, saved: Path, queries: DataFrame, ask: Callable[..., Answers]
) -> None:
    again = type(model).load(str(saved))
    assert again.get("k") == LACKING
    assert_same_answers(answers(again, queries, **ALL), ask(**ALL))
    through_ml = type(model).read().load(str(saved))
    assert_same_answers(answers(through_ml, queries), ask())
    suffixes = {file.suffix for file in Path(resolve(str(saved))).rglob("*") if file.is_file()}
    assert suffixes <= {".json", ".parquet", ".safetensors", ".faiss"}


def test_answers_without_spark_are_those_of_spark(
    case: Case, saved: Path, queries: DataFrame, ask: Callable[..., Answers]
) -> None:
    answerer = answering.load(str(saved))
    # ALS's vectors of train's users are a table for Spark: without it, histories alone answer.
    alone = {"fold_in": "history"} if isinstance(answerer.searcher, ALSSearcher) else {}
    table = to_arrow(queries)
    for params in ({}, ALL):
        found = dict(
            zip(table["query_id"].to_pylist(), answerer.answer(table, **params), strict=True)
        )
        assert_same_answers(found, ask(**alone, **params))
    histories = [own_items(user) for user in range(USERS)]
    for user, given in enumerate(answerer.answer(histories)):
        assert len(given) == LACKING
        if case.personal:
            assert {colour(item) for item, _ in given} == {colour(user)}


@pytest.mark.slow
def test_an_answer_loads_neither_spark_nor_training(saved: Path) -> None:
    code = (
        "import sys\nfrom sparkrec.retrieval.answering import load\n"
        f"assert load({str(saved)!r}).answer([[0, 2, 4]])[0]\n"
        "names = ('pyspark', 'petastorm', 'sparkrec.training', 'sparkrec.feed')\n"
        "print(*[name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_saving_again_replaces_its_own_and_nothing_else(
    model: RetrievalModel, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    model.save(str(path))
    model.write().overwrite().save(str(path))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match="is not an output of sparkrec"):
        model.save(str(foreign))
    assert (foreign / "thesis.txt").read_text() == "years of work"


def test_a_model_of_another_class_is_not_loaded(model: RetrievalModel, saved: Path) -> None:
    class OtherModel(type(model)):  # type: ignore[misc]
        pass

    with pytest.raises(StorageError, match=rf"holds a {type(model).__name__}, not a OtherModel"):
        OtherModel.load(str(saved))


@pytest.mark.slow
def test_two_runs_with_a_seed_are_equal(
    case: Case,
    model: RetrievalModel,
    train: DataFrame,
    queries: DataFrame,
    ask: Callable[..., Answers],
) -> None:
    """Also where the rows of train come in another order and in other partitions."""
    again = case.make(k=LACKING).fit(train.repartition(3, "item_id"))
    found = answers(again, queries, **ALL)
    if case.vectors:
        assert np.array_equal(again.item_vectors, model.item_vectors)
        assert_same_answers(found, ask(**ALL))
    else:
        assert found == ask(**ALL)


def test_params(case: Case) -> None:
    estimator = case.make()
    assert estimator.get("exclude_seen") is True
    assert estimator.get("k") == 20
    assert estimator.set_params(k=7, fallback="none") is estimator
    assert (estimator.get("k"), estimator.get("fallback")) == (7, "none")
    with pytest.raises(TypeError, match=r"unknown param 'K'; known: .*exclude_seen"):
        case.make(K=3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        case.make(k=0)
    with pytest.raises(ValueError, match="fallback must be"):
        case.make(fallback="random")

"""The estimator in a notebook: events in, recommendations out, and an earlier model to go on from.

What every retriever must do is in the contract tests; here is what only two towers have.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answers import assert_same_answers
from pyspark.sql import DataFrame, SparkSession

from sparkrec.errors import ConfigError, DataError, SchemaError
from sparkrec.feed import _petastorm
from sparkrec.io.outputs import resolve
from sparkrec.models import dssm as networks
from sparkrec.models.dssm import DSSMConfig
from sparkrec.retrieval.answering.network import TrainedNetwork
from sparkrec.retrieval.search.settings import Retrieval
from sparkrec.retrieval.two_tower import TwoTowerModel
from sparkrec.schema.parser import FeatureSchema, feature_schema
from sparkrec.spark_versions import to_arrow
from sparkrec.training.retrievers import DSSM, retriever_of
from sparkrec.training.settings import EarlyStopping, Loss, Training
from sparkrec.training.spec import TrainingSpec
from sparkrec.training.warm_start import grown_weights

USERS, ITEMS = 20, 12
SMALL: dict[str, Any] = {
    "user_col": "user",
    "item_col": "movie_id",
    "embedding_dim": 8,
    "hidden": (8,),
    "epochs": 15,
    "batch_size": 16,
    "learning_rate": 0.02,
    "temperature": 0.5,
    "num_negatives": 3,
    "early_stopping": None,
    "k": 5,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def events(spark: SparkSession, users: int = USERS, first_movie: int = 0) -> DataFrame:
    """User u took the movies of parity u in turn, but not the first ones; 4 events each."""
    rows = []
    for user in range(users):
        for moment in range(4):
            movie = (2 * (user // 2 + moment) + user % 2) % ITEMS + first_movie
            rows.append((f"u{user}", f"m{movie:02d}", moment, user * 4 + moment))
    schema = "user string, movie_id string, timestamp long, position long"
    return spark.createDataFrame(rows, schema).coalesce(2)


def queries(train: DataFrame) -> DataFrame:
    return train.groupBy("user").agg({"movie_id": "collect_list"}).toDF("user", "history")


def answers(model: TwoTowerModel, frame: DataFrame) -> dict[str, list[tuple[str, float]]]:
    return {
        row["user"]: [(entry["item_id"], entry["score"]) for entry in row["recommended"]]
        for row in model.transform(frame).collect()
    }


def parity(key: str) -> int:
    """Of a user or a movie: `u7`, `m07`."""
    return int(key[1:]) % 2


def schema_of(columns: str, features: str) -> FeatureSchema:
    return feature_schema(columns, "columns", features, "features")


@pytest.fixture(scope="module")
def train(spark: SparkSession) -> Iterator[DataFrame]:
    frame = events(spark).cache()
    yield frame
    frame.unpersist()


@pytest.fixture(scope="module")
def model(train: DataFrame) -> TwoTowerModel:
    return DSSM(**SMALL, seed=1).fit(train)


@pytest.fixture(scope="module")
def saved(model: TwoTowerModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("models") / "first model")
    model.save(path)
    return path


# ---------------------------------------------------------------------------------- a notebook


def test_events_to_recommendations(model: TwoTowerModel, train: DataFrame) -> None:
    assert isinstance(model, TwoTowerModel)
    found = answers(model, queries(train))
    assert len(found) == USERS
    for given in found.values():
        assert len(given) == 5
        # The cosine itself: the temperature is the loss's affair.
        assert all(-1.001 <= score <= 1.001 for _, score in given)

    kept = answers(model.copy().set_params(exclude_seen=False), queries(train))
    first = [parity(given[0][0]) == parity(user) for user, given in kept.items()]
    assert sum(first) > 0.9 * USERS


def test_what_the_model_knows(model: TwoTowerModel) -> None:
    assert len(model.catalogue) == ITEMS
    assert model.item_vectors.shape == (ITEMS, 8)
    assert np.allclose(np.linalg.norm(model.item_vectors, axis=1), 1, atol=1e-5)
    columns = ("user", "last_movie", "recent_movie_ids")
    assert model.parts.user_encoder.schema.columns == columns
    assert model.parts.item_encoder.features.declared.columns == ("movie_id",)
    assert set(model.fit_report["seconds"]) == {"prepare", "fit", "index"}
    assert [entry["epoch"] for entry in model.fit_report["history"]] == list(range(1, 16))
    assert model.fit_report["training_rows"] == 4 * USERS


def test_queries_may_bring_the_history_features_themselves(
    model: TwoTowerModel, train: DataFrame
) -> None:
    plain = queries(train)
    derived = plain.selectExpr(
        "*", "history AS recent_movie_ids", "try_element_at(history, -1) AS last_movie"
    )
    assert_same_answers(answers(model, derived), answers(model, plain))


def test_queries_that_lack_a_feature(model: TwoTowerModel, train: DataFrame) -> None:
    with pytest.raises(SchemaError, match="last_movie"):
        model.copy().set_params(exclude_seen=False).transform(train.select("user"))


@pytest.mark.slow
def test_early_stopping_holds_out_the_last_events_and_refits(train: DataFrame) -> None:
    stopping = EarlyStopping("recall@5", patience=1, refit=True)
    params = {**SMALL, "epochs": 3, "early_stopping": stopping, "exclude_seen": True}
    stopped = DSSM(**params).fit(train)
    history = stopped.fit_report["history"]
    fit = [entry for entry in history if entry["phase"] == "fit"]
    refit = [entry for entry in history if entry["phase"] == "refit"]
    assert all(0 <= entry["recall@5"] <= 1 for entry in fit)
    values = [entry["recall@5"] for entry in fit]
    assert len(refit) == values.index(max(values)) + 1
    assert len(stopped.catalogue) == ITEMS
    assert stopped.fit_report["training_rows"] == 4 * USERS


def test_training_really_goes_through_petastorm(
    train: DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no petastorm today")

    monkeypatch.setattr(_petastorm, "make_batch_reader", broken)
    with pytest.raises(RuntimeError, match="no petastorm today"):
        DSSM(**SMALL).fit(train)


# -------------------------------------------------------------------------------------- params


@dataclass
class JobConfig:
    """As much of a job's config as the estimator reads."""

    seed: int
    model: DSSMConfig
    loss: Loss
    training: Training
    retrieval: Retrieval


def test_params_by_name() -> None:
    estimator = DSSM(embedding_dim=16, temperature=0.1, epochs=3, index="HNSW8", loss="bce")
    assert estimator.get("embedding_dim") == 16
    assert estimator.get("hidden") == DSSMConfig().hidden
    assert estimator.get("loss") == "bce"
    assert estimator.block("model") == DSSMConfig(embedding_dim=16)
    assert estimator.block("loss") == Loss(temperature=0.1)
    assert estimator.block("training") == Training(epochs=3)
    assert estimator.block("retrieval").index == "HNSW8"


def test_params_of_a_config() -> None:
    config = JobConfig(
        seed=9,
        model=DSSMConfig(embedding_dim=8, hidden=(4,)),
        loss=Loss(temperature=0.3),
        training=Training(epochs=2, early_stopping=None),
        retrieval=Retrieval(k=7),
    )
    estimator = DSSM(config)
    for name in ("model", "loss", "training", "retrieval"):
        assert estimator.block(name) == getattr(config, name)
    assert estimator.get("seed") == 9
    assert estimator.get("exclude_seen") is False  # as the retrieval block has it
    changed = DSSM(config, epochs=5)
    assert changed.block("training") == Training(epochs=5, early_stopping=None)
    assert changed.block("model") == config.model


def test_unknown_params() -> None:
    with pytest.raises(TypeError, match=r"unknown param 'embeding_dim'; known: .*embedding_dim"):
        DSSM(embeding_dim=4)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"epochs": 0}, "training.epochs must be at least 1"),
        ({"temperature": 0.0}, "loss.temperature must be at least 1e-06"),
        ({"hidden": ()}, "hidden must name"),
        ({"index": "flat"}, "retrieval.index must be Flat"),
        ({"batch_size": 33, "workers": 2}, "training.batch_size must be a multiple of workers"),
    ],
)
def test_wrong_values_name_their_block(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DSSM(**params)


def test_an_estimator_class_for_every_network() -> None:
    assert retriever_of(networks.DSSM) is DSSM

    class Outside(networks.DSSM):
        pass

    assert retriever_of(Outside) is retriever_of(Outside)
    assert (retriever_of(Outside).__name__, retriever_of(Outside).network_class) == (
        "Outside",
        Outside,
    )


def test_params_given_to_fit_win(train: DataFrame) -> None:
    estimator = DSSM(**{**SMALL, "epochs": 1})
    fitted = estimator.fit(train, {estimator.k: 3, estimator.epochs: 2})
    assert fitted.get("k") == 3
    assert len(fitted.fit_report["history"]) == 2
    assert estimator.get("epochs") == 1


# --------------------------------------------------------------------------- labels, features


def test_labelled_rows(spark: SparkSession, train: DataFrame) -> None:
    """Every user with two movies of either parity; the label says which the user liked."""
    rows = [
        (f"u{user}", f"m{movie:02d}", int(movie % 2 == user % 2))
        for user in range(USERS)
        for movie in range(ITEMS)
        if (user + movie) % 3
    ]
    labelled = spark.createDataFrame(rows, "user string, movie_id string, label int")
    side = schema_of("user", "user")
    fitted = DSSM(**SMALL, user_schema=side, exclude_seen=False).fit(labelled)
    for user, given in answers(fitted, queries(train)).items():
        assert {parity(item) for item, _ in given} == {parity(user)}


def test_equal_weights_are_no_weights(train: DataFrame) -> None:
    """Weights are divided by their mean, so the losses are the same to the last bit."""
    weighed = train.selectExpr("*", "7 AS worth")
    histories = [
        DSSM(**{**SMALL, "epochs": 2}, seed=1, **weight).fit(weighed).fit_report["history"]
        for weight in ({}, {"weight_col": "worth"})
    ]
    plain, found = ([epoch["loss"] for epoch in history] for history in histories)
    assert plain == found


@pytest.mark.slow
def test_in_batch_negatives_need_none_in_train(train: DataFrame) -> None:
    """And do not read those that are there."""
    loss = {"loss": "softmax", "negatives": "in_batch", "temperature": 0.1}
    params = {**SMALL, **loss, "epochs": 40, "exclude_seen": False}
    fitted = DSSM(**params).fit(train)
    found = answers(fitted, queries(train))
    for user, given in found.items():
        # Items of its parity that a user had not are as much negatives as the others.
        assert parity(given[0][0]) == parity(user)
    nonsense = train.selectExpr("*", "array('nothing') AS negatives")
    assert len(answers(DSSM(**{**params, "epochs": 1}).fit(nonsense), queries(train))) == len(found)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "negatives"), [("softmax", "in_batch"), ("bpr", "given")])
def test_only_bce_learns_from_labels(loss: str, negatives: str, train: DataFrame) -> None:
    params = {**SMALL, "loss": loss, "negatives": negatives}
    with pytest.raises(DataError, match=r"column `label`, which only loss: \{name: bce"):
        DSSM(**params).fit(train.selectExpr("*", "1 AS label"))


@pytest.mark.parametrize("mark", ["label", "is_validation"])
def test_early_stopping_needs_rows_that_it_can_hold_out(mark: str, train: DataFrame) -> None:
    params = {**SMALL, "early_stopping": EarlyStopping()}
    marked = train.selectExpr("*", f"{'1' if mark == 'label' else 'false'} AS {mark}")
    with pytest.raises(DataError, match=rf"with the column `{mark}`; give the validation queries"):
        DSSM(**params).fit(marked)


@pytest.fixture(scope="module")
def items(spark: SparkSession) -> DataFrame:
    """Features of the movies, of one that nobody saw, and of m03 none at all."""
    rows = [
        (f"m{movie:02d}", [f"parity {movie % 2}", "film"], 1990 + movie)
        for movie in [*range(ITEMS), 77]
        if movie != 3
    ]
    return spark.createDataFrame(rows, "movie_id string, genre array<string>, year int")


@pytest.fixture(scope="module")
def users(spark: SparkSession) -> DataFrame:
    rows = [(f"u{user}", f"parity {user % 2}", user // 7) for user in range(USERS)]
    return spark.createDataFrame(rows, "user string, taste string, town int")


@pytest.mark.slow
def test_features_and_crosses_of_both_sides(
    train: DataFrame, items: DataFrame, users: DataFrame, tmp_path: Path
) -> None:
    user_schema = schema_of("user\ntaste\ntown\nlast_movie", "taste\ntaste#town\nlast_movie")
    item_schema = schema_of("movie_id\ngenre\nyear", "movie_id\ngenre\ngenre#year")
    estimator = DSSM(
        **SMALL,
        user_schema=user_schema,
        item_schema=item_schema,
        items=items,
        users=users,
        item_buckets={"genre#year": 50},
        exclude_seen=False,
    )
    fitted = estimator.fit(train)
    assert fitted.parts.item_encoder.features.rows.slices == [(0, 1), (1, 3), (3, 5)]
    assert fitted.parts.item_encoder.features.rows.buckets == {"genre#year": 50}
    assert len(fitted.catalogue) == ITEMS
    asked = queries(train)
    found = answers(fitted, asked)
    first = [parity(given[0][0]) == parity(user) for user, given in found.items()]
    assert sum(first) > 0.9 * USERS

    # The users table is not part of the model: a loaded one takes the features from the queries.
    path = str(tmp_path / "model")
    fitted.save(path)
    again = TwoTowerModel.load(path)
    with pytest.raises(SchemaError, match="taste"):
        again.transform(asked)
    assert_same_answers(answers(again, asked.join(users, "user")), found)


def test_a_table_that_lacks_a_declared_feature(train: DataFrame, items: DataFrame) -> None:
    wanted = schema_of("movie_id\ndirector", "movie_id\ndirector")
    with pytest.raises(SchemaError, match=r"the items table.*director"):
        DSSM(**SMALL, item_schema=wanted, items=items).fit(train)
    with pytest.raises(SchemaError, match=r"there is no items table.*director"):
        DSSM(**SMALL, item_schema=wanted).fit(train)


# ------------------------------------------------------------------- saving, and going on later


def test_the_folder_holds_no_pickle_and_gives_the_same_answers(
    model: TwoTowerModel, saved: str, train: DataFrame
) -> None:
    files = {path.name for path in Path(resolve(saved)).iterdir()}
    assert files == {
        "_sparkrec.json",
        "model.json",
        "weights.safetensors",
        "vocabulary.safetensors",
        "vectors.safetensors",
        "index.faiss",
        "items.parquet",
    }
    again = TwoTowerModel.load(saved)
    assert_same_answers(answers(again, queries(train)), answers(model, queries(train)))
    assert np.array_equal(again.item_vectors, model.item_vectors)
    assert again.fit_report == model.fit_report


@pytest.mark.slow
def test_going_on_with_more_data(
    spark: SparkSession, model: TwoTowerModel, saved: str, train: DataFrame
) -> None:
    """Two more users, and movies 100 to 111; with a tiny rate the old ones stay where they were."""
    more = train.union(
        events(spark, USERS + 2, first_movie=88).selectExpr(
            "user", "movie_id", "timestamp + 10", "position + 1000"
        )
    )
    params = {**SMALL, "learning_rate": 1e-9, "epochs": 1, "model_in_path": saved}
    grown = DSSM(**params, seed=5).fit(more)

    old_ids = model.catalogue.ids.to_pylist()
    assert grown.catalogue.ids.to_pylist()[:ITEMS] == old_ids
    assert len(grown.catalogue) == 2 * ITEMS
    assert np.allclose(grown.item_vectors[:ITEMS], model.item_vectors, atol=1e-5)

    old, new = model.parts.user_encoder.features, grown.parts.user_encoder.features
    assert new.hashes[: len(old.hashes)].tolist() == old.hashes.tolist()
    assert new.num_rows > old.num_rows
    assert new.widths == old.widths
    asked = queries(train)
    table = model.searcher().history_columns.add(to_arrow(asked), model.catalogue)
    before = model.parts.network.user_vectors(old.encode(table))
    after = grown.parts.network.user_vectors(new.encode(table))
    assert np.allclose(before, after, atol=1e-5)

    found = answers(grown.set_params(k=2 * ITEMS, exclude_seen=False), asked)
    of_old_items = {
        user: [(item, score) for item, score in given if item in old_ids]
        for user, given in found.items()
    }
    wanted = answers(model.copy().set_params(k=ITEMS, exclude_seen=False), asked)
    assert_same_answers(of_old_items, wanted)


def test_items_gone_from_train_keep_their_places(
    spark: SparkSession, model: TwoTowerModel, saved: str, train: DataFrame
) -> None:
    params = {**SMALL, "epochs": 1, "model_in_path": saved}
    grown = DSSM(**params).fit(train.where("movie_id > 'm05'"))
    assert grown.catalogue.ids.equals(model.catalogue.ids)
    assert grown.catalogue.counts[:6].tolist() == [0] * 6
    assert grown.catalogue.counts[6:].min() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"hidden": (12,)}, {"hidden": (4,)}, {"hidden": (8, 8)}, {"embedding_dim": 4}]
)
def test_going_on_needs_the_same_architecture(
    change: dict[str, Any], saved: str, train: DataFrame
) -> None:
    params = {**SMALL, **change, "epochs": 1, "model_in_path": saved}
    with pytest.raises(ConfigError, match=r"training.model_in_path: the earlier model's"):
        DSSM(**params).fit(train)


def test_a_layer_fewer_is_another_architecture(model: TwoTowerModel) -> None:
    network = model.parts.network
    deeper = {**network.weights, "user_tower.2.bias": torch.zeros(8)}
    earlier = TrainedNetwork(network.spec, deeper, {})
    spec = TrainingSpec(
        network=network.spec,
        loss=Loss(),
        training=Training(),
        seed=0,
        fields={},
        fit_path="",
        all_path="",
        tensors_path="",
        initial_weights=None,
        checkpoint_path="",
    )
    assert grown_weights(spec, network).keys() == network.weights.keys()
    with pytest.raises(ConfigError, match=r"has user_tower.2.bias, which this one lacks"):
        grown_weights(spec, earlier)


@pytest.mark.slow
def test_a_work_path_can_be_used_again(train: DataFrame, tmp_path: Path) -> None:
    work = str(tmp_path / "my work")
    params = {**SMALL, "epochs": 2}
    first = DSSM(**params, work_path=work).fit(train)
    second = DSSM(**params, work_path=work).fit(train)
    assert np.array_equal(first.item_vectors, second.item_vectors)

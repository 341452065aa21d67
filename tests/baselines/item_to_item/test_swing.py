"""Swing on Spark against a brute force of sets, with and without its limits."""

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines.item_to_item import swing
from sparkrec.baselines.item_to_item.swing import Swing, SwingConfig, SwingModel
from sparkrec.errors import DataError

Pairs = dict[tuple[Any, Any], float]
Event = tuple[Any, Any]


def brute_force(events: Iterable[Event], config: SwingConfig) -> Pairs:
    """The formula of the module's docstring, both ways."""
    had: dict[Any, set[Any]] = {}
    for user, item in events:
        if user is not None and item is not None:
            had.setdefault(user, set()).add(item)
    found: Pairs = {}
    for one, other in combinations(had.values(), 2):
        shared = one & other
        weight = 1.0
        for items in (one, other):
            weight *= (len(items) + config.smoothing) ** -config.exponent
        for i in shared:
            for j in shared - {i}:
                found[i, j] = found.get((i, j), 0.0) + weight / (config.alpha + len(shared))
    return found


def similarities(model: SwingModel, spark: SparkSession) -> Pairs:
    return {
        (row["key"], entry["item_id"]): entry["score"]
        for row in model.i2i(spark).collect()
        for entry in row["value"]
    }


def skewed(users: int, items: int, seed: int = 0) -> list[Event]:
    """Events with repeats; item 0 is had by everyone, and user 0 has everything."""
    random = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, items + 1)
    events = [(0, item) for item in range(items)]
    for user in range(users):
        mine = random.choice(items, random.integers(1, 15), p=share / share.sum())
        events += [(user, 0), *[(user, int(item)) for item in mine]]
    return events


@pytest.fixture(scope="module")
def train(spark: SparkSession) -> Iterator[DataFrame]:
    frame = spark.createDataFrame(skewed(120, 40), "user_id long, item_id long").cache()
    yield frame
    frame.unpersist()


@pytest.fixture(scope="module")
def exact(spark: SparkSession, train: DataFrame) -> Pairs:
    return similarities(Swing(seed=4).fit(train), spark)


def test_scores_equal_the_brute_force(spark: SparkSession) -> None:
    """Text ids of any script, repeats, nulls, an item that one user had and a user with one."""
    text = [(f"u{user}", f"ü{item} 映画") for user, item in skewed(40, 12)]
    odd = [("u3", None), (None, "ü1 映画"), (None, None), ("u5", "only u5"), ("new", "ü1 映画")]
    events = spark.createDataFrame([*text, *odd], "user string, film string")
    config = SwingConfig(alpha=2.0, smoothing=3.0, exponent=0.4)
    model = Swing(config, user_col="user", item_col="film").fit(events)
    expected = brute_force([*text, *odd], config)
    assert similarities(model, spark) == pytest.approx(expected, rel=1e-9)
    assert len(model.catalogue) == 13
    assert ("ü0 映画", "only u5") not in expected


@pytest.mark.slow
def test_the_best_neighbours_of_all_blocks_are_kept(
    spark: SparkSession, train: DataFrame, exact: Pairs
) -> None:
    best = similarities(Swing(num_neighbours=3, seed=4).fit(train), spark)
    for item in range(40):
        scores = {j: score for (i, j), score in exact.items() if i == item}
        kept = [j for i, j in best if i == item]
        assert sorted(scores.values(), reverse=True)[:3] == [scores[j] for j in kept]
    assert all(best[pair] == exact[pair] for pair in best)


LIMITS = {"max_users_per_item": 10, "max_items_per_user": 6}


@pytest.mark.parametrize("limits", [{}, LIMITS])
def test_partitions_and_blocks_change_not_one_bit(
    spark: SparkSession,
    train: DataFrame,
    exact: Pairs,
    limits: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = similarities(Swing(seed=4, **limits).fit(train), spark) if limits else exact
    monkeypatch.setattr(swing, "count_blocks", lambda session, least: 7)
    assert (
        similarities(Swing(seed=4, **limits).fit(train.repartition(5, "item_id")), spark) == plain
    )


def test_limits_bound_and_the_seed_draws(
    spark: SparkSession, train: DataFrame, exact: Pairs
) -> None:
    """User 0 has 40 items, item 0 has 120 users."""
    one = similarities(Swing(seed=1, **LIMITS).fit(train), spark)
    other = similarities(Swing(seed=2, **LIMITS).fit(train), spark)
    assert one != other
    assert len(one) < len(exact)


def test_a_pair_is_exact_if_one_item_has_few_users(
    spark: SparkSession, train: DataFrame, exact: Pairs
) -> None:
    limit = 30
    model = Swing(max_users_per_item=limit, seed=4).fit(train)
    sampled = similarities(model, spark)
    few = {item for item in range(40) if model.catalogue.counts[item] <= limit}
    assert 0 not in few
    near = {pair for pair in exact if few & set(pair)}
    assert 0 < len(near) < len(exact)
    assert all(sampled[pair] == exact[pair] for pair in near)
    assert any(sampled.get(pair) != exact[pair] for pair in exact.keys() - near)


@pytest.mark.slow
def test_little_memory_makes_more_blocks_and_chunks_of_the_same_result(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30,000 events do not fit into half a megabyte at once."""
    random = np.random.default_rng(5)
    events = [(user, int(item)) for user in range(1500) for item in random.integers(0, 60, 20)]
    frame = spark.createDataFrame(events, "user_id long, item_id long")
    limits = {"max_users_per_item": 40, "max_items_per_user": 20}
    blocks: list[float] = []
    count = swing.count_blocks

    def counted(session: SparkSession, least: float) -> int:
        blocks.append(least)
        return count(session, least)

    monkeypatch.setattr(swing, "count_blocks", counted)
    plain = similarities(Swing(**limits).fit(frame), spark)
    assert similarities(Swing(task_memory_mb=1, **limits).fit(frame), spark) == plain
    assert blocks == [0, pytest.approx(60 * 40 * 20 * 20 / 2**19)]


def test_users_with_one_item_each_make_nothing_alike(spark: SparkSession) -> None:
    events = spark.createDataFrame([(1, 7), (1, 7), (2, 8), (3, 7)], "user_id long, item_id long")
    model = Swing().fit(events)
    assert model.neighbours.shape == (2, 100)
    assert (model.neighbours == -1).all()


def test_a_missing_column(train: DataFrame) -> None:
    with pytest.raises(DataError, match="train has no column `movie_id`"):
        Swing(item_col="movie_id").fit(train)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", -1.0),
        ("smoothing", -0.1),
        ("max_users_per_item", 1),
        ("max_items_per_user", 1),
        ("task_memory_mb", 0),
    ],
)
def test_values_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        Swing(**{name: value})

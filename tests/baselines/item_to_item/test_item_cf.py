"""ItemCF against a brute force of dictionaries, formula by formula."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines.item_to_item import item_cf
from sparkrec.baselines.item_to_item._blocks import Block, _message
from sparkrec.baselines.item_to_item._item_cf_kernel import CoOccurrence
from sparkrec.baselines.item_to_item._user_rows import UserRows
from sparkrec.baselines.item_to_item.item_cf import ItemCF, ItemCFConfig, ItemCFModel
from sparkrec.errors import DataError

ITEMS = 9
SIMILARITIES = ("cosine", "conditional", "jaccard", "lift")
Pairs = dict[tuple[Any, Any], float]


Weighing = Callable[[int, Any], float]


def brute_force(
    rows: list[list[Any]], config: ItemCFConfig, weighing: Weighing = lambda user, item: 1.0
) -> Pairs:
    """The similarity of every pair of items, by the formulas of the module's docstring."""
    together: Pairs = defaultdict(float)
    users_of_both: Pairs = defaultdict(float)
    weight: dict[Any, float] = defaultdict(float)
    users: dict[Any, int] = defaultdict(int)
    for user, row in enumerate(rows):
        w = 1 / len(row) if config.weighted else 1.0
        for place, i in enumerate(row):
            weight[i] += w * weighing(user, i) ** 2
            users[i] += 1
            for other, j in enumerate(row):
                distance = abs(other - place)
                backwards = config.directed and other < place
                too_far = config.max_distance and distance > config.max_distance
                if i == j or backwards or too_far:
                    continue
                both = weighing(user, i) * weighing(user, j)
                together[i, j] += w * both * config.distance_decay**distance
                users_of_both[i, j] += 1
    everybody = sum(1 / len(row) if config.weighted else 1.0 for row in rows)
    found = {}
    for (i, j), c in together.items():
        n = users_of_both[i, j]
        if n < config.min_cooccurrence:
            continue
        score = {
            "cosine": c / math.sqrt(weight[i] * weight[j]),
            "conditional": c / weight[i],
            "jaccard": c / (weight[i] + weight[j] - c),
            "lift": c * everybody / (weight[i] * weight[j]),
        }[config.similarity]
        score *= n / (n + config.shrinkage) * users[j] ** -config.popularity_damping
        found[i, j] = score
    return found


def solved(
    rows: list[list[int]],
    config: ItemCFConfig,
    blocks: int,
    chunk: int,
    weighing: Weighing | None = None,
) -> Pairs:
    """What the kernel finds in blocks of items, its rows in two messages from two sources."""
    counting = CoOccurrence(config, ITEMS, chunk)
    found: Pairs = {}
    for block in range(blocks):
        own = np.arange(block, ITEMS, blocks, dtype=np.int32)
        batches = []
        for source in (0, 1):
            part = rows[source::2]
            weights = [
                weighing(source + 2 * user, item)
                for user, row in enumerate(part)
                for item in (row if weighing else [])
                if weighing
            ]
            indptr = np.cumsum([0, *[len(row) for row in part]]).astype(np.int64)
            items = np.array([item for row in part for item in row], np.int32)
            sent = UserRows(indptr, items, np.array(weights, np.float64))
            totals = counting.measure(sent).tobytes()
            batches.append(_message(block, source, totals, sent.to_bytes()))
        for items, neighbours, scores in counting(Block(own, batches)):
            for item, ids, values in zip(items, neighbours, scores, strict=True):
                for neighbour, score in zip(ids, values, strict=True):
                    if neighbour >= 0:
                        found[int(item), int(neighbour)] = float(score)
    return found


CONFIGS = st.builds(
    ItemCFConfig,
    similarity=st.sampled_from(SIMILARITIES),
    user_weight=st.sampled_from([None, True, False]),
    shrinkage=st.sampled_from([0.0, 2.5]),
    popularity_damping=st.sampled_from([0.0, 0.5]),
    directed=st.booleans(),
    max_distance=st.sampled_from([0, 1, 3]),
    distance_decay=st.sampled_from([1.0, 0.7]),
    min_cooccurrence=st.sampled_from([1, 2]),
    num_neighbours=st.just(ITEMS),
)
ROWS = st.lists(
    st.lists(st.integers(0, ITEMS - 1), unique=True, min_size=1), min_size=1, max_size=12
)


@given(ROWS, CONFIGS, st.sampled_from([1, 3]), st.sampled_from([1, 10**9]))
@settings(max_examples=150, deadline=None)
def test_every_similarity_is_exact_in_any_blocks_and_chunks(
    rows: list[list[int]], config: ItemCFConfig, blocks: int, chunk: int
) -> None:
    found, wanted = solved(rows, config, blocks, chunk), brute_force(rows, config)
    assert found.keys() == wanted.keys()
    for pair, score in wanted.items():
        assert found[pair] == pytest.approx(score, rel=1e-9, abs=1e-15)


@given(ROWS, CONFIGS, st.sampled_from([1, 3]), st.sampled_from([1, 10**9]))
@settings(max_examples=100, deadline=None)
def test_weights_are_exact_too(
    rows: list[list[int]], config: ItemCFConfig, blocks: int, chunk: int
) -> None:
    if config.similarity not in ("cosine", "jaccard"):
        config = replace(config, similarity="cosine")

    def weighing(user: int, item: int) -> float:
        return 0.5 + (3 * user + 5 * item) % 4

    found = solved(rows, config, blocks, chunk, weighing)
    wanted = brute_force(rows, config, weighing)
    assert found.keys() == wanted.keys()
    for pair, score in wanted.items():
        assert found[pair] == pytest.approx(score, rel=1e-9, abs=1e-15)


@given(ROWS, st.sampled_from([1, 2, 4]), st.sampled_from([1, 10**9]))
@settings(max_examples=60, deadline=None)
def test_the_best_neighbours_are_kept_best_first_ties_by_item(
    rows: list[list[int]], width: int, chunk: int
) -> None:
    """Counts of 1 make many ties."""
    config = ItemCFConfig(similarity="conditional", num_neighbours=width)
    found = list(solved(rows, config, 1, chunk).items())
    wanted: list[tuple[tuple[int, int], float]] = []
    for i in range(ITEMS):
        scored = [(pair, s) for pair, s in brute_force(rows, config).items() if pair[0] == i]
        wanted += sorted(scored, key=lambda entry: (-entry[1], entry[0][1]))[:width]
    assert [pair for pair, _ in found] == [pair for pair, _ in wanted]
    assert [score for _, score in found] == pytest.approx([score for _, score in wanted])


def test_pairs_too_far_apart_to_weigh_anything_are_no_neighbours() -> None:
    """1e-200 to the second power is 0 in floating point."""
    config = ItemCFConfig(distance_decay=1e-200, directed=True, num_neighbours=ITEMS)
    assert set(solved([[0, 1, 2, 3]] * 2, config, 1, 10**9)) == {(0, 1), (1, 2), (2, 3)}


def test_metaspores_cosine_by_hand() -> None:
    """Users {0, 1} and {0, 1, 2}: w = 1/2 and 1/3, d(0) = d(1) = 5/6, d(2) = 1/3."""
    found = solved([[0, 1], [0, 1, 2]], ItemCFConfig(), 1, 10**9)
    assert found[0, 1] == pytest.approx(1.0)
    assert found[0, 2] == pytest.approx((1 / 3) / math.sqrt(5 / 6 * 1 / 3))


# ------------------------------------------------------------------------------------ on Spark

EVENTS = [
    # user, item, timestamp, position; あ had ü twice, and the last time counts.
    ("あ", "ü", 1, 0),
    ("あ", "b c", 2, 1),
    ("あ", "ü", 2, 2),
    ("あ", "d", 3, 3),
    ("x", "d", 5, 4),
    ("x", "ü", 4, 5),
    ("y", "b c", 1, 6),
    ("y", "d", 1, 8),
    ("y", "ü", 1, 7),
    ("z", "once", 1, 9),
    (None, "d", 1, 10),
    ("z", None, 1, 11),
]
ROWS_OF_EVENTS = [["b c", "ü", "d"], ["ü", "d"], ["b c", "ü", "d"], ["once"]]


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    schema = "user_id string, item_id string, timestamp long, position long"
    return spark.createDataFrame(EVENTS, schema).coalesce(2).cache()


def pairs(model: ItemCFModel) -> Pairs:
    ids = model.catalogue.ids.to_pylist()
    return {
        (ids[i], ids[j]): score
        for i, (row, values) in enumerate(zip(model.neighbours, model.scores, strict=True))
        for j, score in zip(row, values, strict=True)
        if j >= 0
    }


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"directed": True, "distance_decay": 0.7, "max_distance": 1, "similarity": "conditional"},
        {"similarity": "lift", "max_items_per_user": 0, "shrinkage": 1.0},
    ],
)
def test_fit_is_exact_with_text_ids_repeats_and_nulls(
    events: DataFrame, params: dict[str, Any]
) -> None:
    found = pairs(ItemCF(**params).fit(events))
    wanted = brute_force(ROWS_OF_EVENTS, ItemCFConfig(**params))
    assert found.keys() == wanted.keys()
    assert found == pytest.approx(wanted, rel=1e-9)


def test_weights_of_events_are_summed_for_a_pair(events: DataFrame) -> None:
    """The weight is the position plus 1; あ had ü at 0 and 2, and x bought nothing."""
    weighed = events.selectExpr("*", "if(user_id = 'x', 0, position + 1) AS worth")
    worth = [{"b c": 2, "ü": 4, "d": 4}, {"b c": 7, "ü": 8, "d": 9}, {"once": 10}]
    rows = [ROWS_OF_EVENTS[0], ROWS_OF_EVENTS[2], ROWS_OF_EVENTS[3]]
    for params in ({}, {"max_items_per_user": 0, "similarity": "jaccard"}):
        found = pairs(ItemCF(weight_col="worth", **params).fit(weighed))
        wanted = brute_force(rows, ItemCFConfig(**params), lambda user, item: worth[user][item])
        assert found == pytest.approx(wanted, rel=1e-9)
    with pytest.raises(DataError, match=r"`worth`, which weight_col names, is null, infinite or "):
        ItemCF(weight_col="worth").fit(weighed.selectExpr("*", "-1.0D AS bad").drop("worth")
                                       .withColumnRenamed("bad", "worth"))  # fmt: skip
    with pytest.raises(ValueError, match="weight_col must be left out with similarity conditional"):
        ItemCFConfig(weight_col="worth", similarity="lift")


def test_the_cap_keeps_the_most_recent_items(events: DataFrame) -> None:
    found = pairs(ItemCF(max_items_per_user=2, similarity="jaccard").fit(events))
    rows = [row[-2:] for row in ROWS_OF_EVENTS]
    wanted = brute_force(rows, ItemCFConfig(similarity="jaccard"))
    assert found == pytest.approx(wanted, rel=1e-9)
    assert "b c" not in {item for pair in found for item in pair}


def test_order_is_only_asked_for_where_it_matters(events: DataFrame) -> None:
    bare = events.select("user_id", "item_id")
    found = pairs(ItemCF(max_items_per_user=0).fit(bare))
    assert found == pytest.approx(brute_force(ROWS_OF_EVENTS, ItemCFConfig()), rel=1e-9)
    with pytest.raises(DataError, match="train has no column `timestamp`"):
        ItemCF().fit(bare)
    with pytest.raises(DataError, match="train: no column item_id"):
        ItemCF().fit(events.drop("item_id"))


def test_partitions_and_a_small_memory_change_nothing(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(5)
    rows = [
        (int(user), int(item), int(random.integers(5)), place)
        for place, (user, item) in enumerate(
            zip(random.integers(0, 200, 3000), random.zipf(1.3, 3000) % 60, strict=True)
        )
    ]
    schema = "user_id long, item_id long, timestamp long, position long"
    frame = spark.createDataFrame(rows, schema)
    params = {"directed": True, "distance_decay": 0.9, "min_cooccurrence": 2}
    whole = ItemCF(**params).fit(frame.coalesce(1))
    monkeypatch.setattr(item_cf, "_ROW_BYTES", 2**19)  # a chunk is one item, so one message
    chunked = ItemCF(task_memory_mb=1, **params).fit(frame.repartition(7, "item_id"))
    assert (whole.neighbours == chunked.neighbours).all()
    assert whole.scores == pytest.approx(chunked.scores, rel=1e-12)
    assert (whole.neighbours >= 0).any()


def test_memory_sets_the_number_of_blocks() -> None:
    config = ItemCFConfig(task_memory_mb=512)
    few = item_cf._least_blocks(config, items=20_000, events=10_000_000)
    many = item_cf._least_blocks(config, items=20_000, events=1_000_000_000)
    assert few == 0
    assert many == pytest.approx(8 * 20_000**2 / 2**28)


def test_save_keeps_how_neighbours_were_counted(events: DataFrame, tmp_path: Path) -> None:
    model = ItemCF(directed=True, popularity_damping=0.5, num_neighbours=2).fit(events)
    path = str(tmp_path / "model")
    model.save(path)
    again = ItemCFModel.load(path)
    assert again.config == model.config
    assert again.config.directed
    assert pairs(again) == pairs(model)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"similarity": "euclid"}, "similarity must be cosine, conditional, jaccard or lift"),
        ({"shrinkage": -1.0}, "shrinkage must be at least 0"),
        ({"distance_decay": 0.0}, "distance_decay must be above 0"),
        ({"min_cooccurrence": 0}, "min_cooccurrence must be at least 1"),
        ({"trigger": "first"}, "trigger must be last or history"),
        ({"decay": 1.5}, "decay must be "),
        ({"num_neighbours": 0}, "num_neighbours must be at least 1"),
    ],
)
def test_params_out_of_range_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ItemCF(**params)


def test_a_config_gives_the_defaults_and_params_win() -> None:
    estimator = ItemCF(ItemCFConfig(directed=True, shrinkage=3.0), shrinkage=4.0, k=5)
    assert (estimator.config.directed, estimator.config.shrinkage) == (True, 4.0)
    assert estimator.get("k") == 5
    assert ItemCF().config == ItemCFConfig()

"""Negatives: never seen, by popularity, the same however the rows lie."""

import itertools
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError, DataError
from sparkrec.transforms import negatives as module
from sparkrec.transforms import negatives_shortfall, sample_negatives

COLUMNS = Columns()
SCHEMA = "user_id string, item_id {}, timestamp long, position long, tags array<string>"


def make_events(spark: SparkSession, rows: list[tuple[str, object]], item: str) -> DataFrame:
    return spark.createDataFrame(
        [(u, i, 100 + n // 3, n, [u, str(i)]) for n, (u, i) in enumerate(rows)],
        SCHEMA.format(item),
    )


@pytest.fixture(scope="module")
def random_events(spark: SparkSession) -> DataFrame:
    rng = np.random.default_rng(3)
    items = np.minimum(rng.geometric(0.08, size=900), 30)
    rows = [(f"u{rng.integers(25)}", f"i{item}") for item in items]
    return make_events(spark, rows, "string").persist()


def drawn(frame: DataFrame) -> dict[int, list[object]]:
    return {row["position"]: row["negatives"] for row in frame.collect()}


def test_never_seen_and_always_enough(random_events: DataFrame) -> None:
    positives = random_events.where("position % 3 > 0")
    out = sample_negatives(positives, random_events, COLUMNS, 7, seed=1)
    assert out.columns == [*positives.columns, "negatives"]
    seen: dict[str, set[str]] = {}
    catalogue = set()
    for row in random_events.collect():
        seen.setdefault(row["user_id"], set()).add(row["item_id"])
        catalogue.add(row["item_id"])
    rows = out.collect()
    assert len(rows) == positives.count()
    for row in rows:
        assert len(row["negatives"]) == 7
        assert not seen[row["user_id"]] & set(row["negatives"])
        assert set(row["negatives"]) <= catalogue
        assert row["tags"] == [row["user_id"], row["item_id"]]
    assert negatives_shortfall(out, 7) == 0


@pytest.mark.slow
def test_the_same_under_any_partitioning(spark: SparkSession, random_events: DataFrame) -> None:
    first = drawn(sample_negatives(random_events, random_events, COLUMNS, 5, seed=4))
    changed = {
        "spark.sql.execution.arrow.maxRecordsPerBatch": "11",
        "spark.sql.shuffle.partitions": "3",
        "spark.sql.adaptive.enabled": "false",
    }
    before = {key: spark.conf.get(key) for key in changed}
    try:
        for key, value in changed.items():
            spark.conf.set(key, value)
        shuffled = random_events.repartition(7).orderBy("item_id")
        again = drawn(sample_negatives(shuffled, shuffled, COLUMNS, 5, seed=4))
    finally:
        for key, old in before.items():
            spark.conf.set(key, str(old))
    assert first == again
    some = random_events.where("position < 300")
    assert drawn(sample_negatives(some, random_events, COLUMNS, 5, seed=4)) == {
        position: items for position, items in first.items() if position < 300
    }
    other = drawn(sample_negatives(random_events, random_events, COLUMNS, 5, seed=5))
    assert sum(other[p] == first[p] for p in first) < len(first) / 10


@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_frequencies_follow_the_popularity(spark: SparkSession, alpha: float) -> None:
    counts = {1: 64, 2: 27, 3: 8, 4: 1, 5: 10}
    rows = [(f"fan{item}-{n}", item) for item, count in counts.items() for n in range(count)]
    rows += [("me", 2), ("me", 5)]
    events = make_events(spark, rows, "int")
    mine = events.where("user_id = 'me'")
    slots = 20_000
    out = drawn(sample_negatives(mine, events, COLUMNS, slots, alpha=alpha, seed=9))
    free = np.array([counts[item] ** alpha for item in (1, 3, 4)])
    for negatives in out.values():
        observed = Counter(negatives)
        assert set(observed) <= {1, 3, 4}
        want = free / free.sum() * slots
        got = np.array([observed[item] for item in (1, 3, 4)])
        # 13.8 is the 99.9% point of chi-square with two degrees of freedom.
        assert ((got - want) ** 2 / want).sum() < 13.8
    a, b = out.values()
    assert sum(x == y for x, y in zip(a, b, strict=True)) < 0.95 * slots  # rows are independent


def test_users_with_everything_and_with_nothing(spark: SparkSession) -> None:
    events = make_events(spark, [("all", 1), ("all", 2), ("all", 2), ("one", 1)], "long")
    new = spark.createDataFrame([("new", 2, 0, 50, ["x"])], SCHEMA.format("long"))
    out = sample_negatives(events.unionByName(new), events, COLUMNS, 4)
    got = drawn(out)
    assert [got[p] for p in (0, 1, 2)] == [[], [], []]
    assert got[3] == [2, 2, 2, 2]
    assert len(got[50]) == 4 and set(got[50]) <= {1, 2}  # type: ignore[arg-type]
    assert negatives_shortfall(out, 4) == 12
    assert negatives_shortfall(out.where("false"), 4) == 0


def test_old_negatives_are_replaced(random_events: DataFrame) -> None:
    some = random_events.where("position < 9")
    once = sample_negatives(some, random_events, COLUMNS, 3)
    twice = sample_negatives(once, random_events, COLUMNS, 3)
    assert twice.columns == once.columns and drawn(twice) == drawn(once)


def test_a_user_may_span_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting the stream of one task anywhere changes nothing."""
    counts = pa.table({"item": ["a", "b", "c", "d"], "n": [4, 3, 2, 1]})
    seen = [[0, 1], None, None, None, [], None, [2], [1, 3], None, None]
    batch = pa.record_batch(
        {"position": list(range(10)), module._SEEN: pa.array(seen, pa.list_(pa.int32()))}
    )

    def run(cuts: list[int], draws: int) -> list[dict[str, object]]:
        monkeypatch.setattr(module, "_CHUNK_DRAWS", draws)
        sampler = module._Sampler.build(counts, "position", 6, 0.75, 2)
        bounds = [0, *cuts, 10]
        slices = [batch.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
        return [row for out in module._worker(sampler)(iter(slices)) for row in out.to_pylist()]

    whole = run([], 1 << 18)
    assert [row["position"] for row in whole] == [1, 2, 3, 5, 8, 9]
    assert set(whole[0]["negatives"]) <= {"c", "d"}  # type: ignore[call-overload]
    assert set(whole[-1]["negatives"]) <= {"a", "c"}  # type: ignore[call-overload]
    for cuts in ([1], [2, 3], [4, 7, 9], list(range(1, 10))):
        assert run(cuts, 1 << 18) == whole
    assert run([], 6) == whole and run([5], 13) == whole


def test_noise_is_splitmix64() -> None:
    noise = module._noise(pa.array(range(2000)), 50, seed=-3)
    assert noise.shape == (2000, 50) and noise.min() >= 0 and noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.005 and len(np.unique(noise)) == noise.size


def test_mistakes_are_named(random_events: DataFrame) -> None:
    with pytest.raises(ConfigError, match="num_negatives"):
        sample_negatives(random_events, random_events, COLUMNS, 0)
    with pytest.raises(ConfigError, match="alpha"):
        sample_negatives(random_events, random_events, COLUMNS, 2, alpha=-1)
    with pytest.raises(DataError, match="no events"):
        sample_negatives(random_events, random_events.where("false"), COLUMNS, 2)
    with pytest.raises(DataError, match="positives: no column position"):
        sample_negatives(random_events.drop("position"), random_events, COLUMNS, 2)
    with pytest.raises(DataError, match="user_id is int in positives but string in train_events"):
        numbers = random_events.withColumn("user_id", random_events["position"].cast("int"))
        sample_negatives(numbers, random_events, COLUMNS, 2)
    with pytest.raises(DataError, match="no column negatives"):
        negatives_shortfall(random_events, 2)

"""Events to Spark MLlib's ALS, and its factors back: ids, order and checkpoints are seen to."""

import logging
import math
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import DataError
from sparkrec.io import storage
from sparkrec.retrieval.answering.als import FACTOR
from sparkrec.retrieval.search.topk import Floats
from sparkrec.session import is_local

log = logging.getLogger("sparkrec.als")

USER = "_sr_user"
_ITEM = "_sr_item"


def pair_events(
    events: DataFrame, user: str, item: str, rating: str | None, once: bool
) -> DataFrame:
    """One row a (user, item): `rating`, and the `events` that it stands for.

    Parameters
    ----------
    rating
        Column of the rating, or None where each event is a rating of 1. Events without a user,
        an item or a rating are left out.
    once
        Of several events of a pair take the largest rating, not the sum.
    """
    value = F.lit(1.0) if rating is None else F.col(rating)
    named = events.select(
        F.col(user).alias(USER), F.col(item).alias(_ITEM), value.cast("double").alias("rating")
    )
    combined = F.max("rating") if once else F.sum("rating")
    count = F.lit(1) if once else F.count("*")
    grouped = named.dropna().groupBy(USER, _ITEM)
    return grouped.agg(combined.alias("rating"), count.alias("events"))


def mean_rating(pairs: DataFrame, positive: bool) -> float:
    """Mean rating of an event (with `positive`, of the pairs whose rating is above 0).

    Raises
    ------
    DataError
        There is none, or a rating is infinite.
    """
    row = (pairs.where("rating > 0") if positive else pairs).agg(
        F.sum("rating").alias("total"), F.sum("events").alias("events")
    )
    found = row.first()
    assert found is not None  # an aggregate without groups has one row
    if not found["events"]:
        wanted = "a rating above 0" if positive else "a rating"
        raise DataError(f"train has no event with a user, an item and {wanted}")
    if not math.isfinite(found["total"]):
        raise DataError("train has ratings that are infinite")
    return float(found["total"] / found["events"])


def factorize(
    pairs: DataFrame, catalogue: Catalogue, als: ALS, work_path: str | None
) -> tuple[Floats, DataFrame]:
    """The factors of the items, and those of the users.

    Parameters
    ----------
    pairs
        What `pair_events` made.
    als
        MLlib's estimator; its input columns are set here.
    work_path
        Where checkpoints may go meanwhile; see `ALS`.

    Returns
    -------
    items, users
        float32 [items, rank] in the catalogue's order, zeros for an item without a rating; and
        one row a user, its raw id (`USER`) and array<float> [rank] (`FACTOR`), kept on the
        executors.
    """
    als = als.copy().setUserCol("id").setItemCol("item").setRatingCol("rating")
    users = _numbered_users(pairs, als.getNumUserBlocks()).persist()
    try:
        with _checkpoints(pairs.sparkSession, work_path):
            found = als.fit(_ratings(pairs, users, catalogue, als.getNumUserBlocks()))
            vectors = found.userFactors.join(users, "id")
            vectors = vectors.select(USER, F.col("features").alias(FACTOR)).localCheckpoint()
            return _dense(found.itemFactors, len(catalogue), als.getRank()), vectors
    finally:
        users.unpersist()


def _numbered_users(pairs: DataFrame, blocks: int) -> DataFrame:
    """Each user with an int `id` that depends on the set of users and `blocks` alone."""
    users = pairs.select(USER).distinct().withColumn("block", F.pmod(F.hash(USER), F.lit(blocks)))
    row = F.row_number().over(Window.partitionBy("block").orderBy(USER)) - 1
    return users.select(USER, (row * blocks + F.col("block")).alias("id"))


def _ratings(pairs: DataFrame, users: DataFrame, catalogue: Catalogue, blocks: int) -> DataFrame:
    """What MLlib reads: `id` of the user, `item`, `rating`, in an order and partitions of its own.

    MLlib draws the random start by the sets of users and items in its blocks, but adds up floats
    in the order in which ratings come.
    """
    numbers = pa.array(np.arange(len(catalogue), dtype=np.int32))
    items = pairs.sparkSession.createDataFrame(pa.table({_ITEM: catalogue.ids, "item": numbers}))
    numbered = pairs.join(users, USER).join(F.broadcast(items), _ITEM)
    chosen = numbered.select("id", "item", F.col("rating").cast("float").alias("rating"))
    return chosen.repartition(blocks, "id").sortWithinPartitions("id", "item")


def _dense(factors: DataFrame, items: int, rank: int) -> Floats:
    """MLlib's factors (`id`, `features`) as [items, rank]."""
    table = factors.toArrow()
    vectors = np.zeros((items, rank), np.float32)
    flat = pa.compute.list_flatten(table.column("features").combine_chunks())
    vectors[table.column("id").to_numpy()] = flat.to_numpy().reshape(-1, rank)
    return vectors


@contextmanager
def _checkpoints(spark: SparkSession, work_path: str | None) -> Iterator[None]:
    """Give the Spark context a checkpoint directory for a while; remove it with all it holds."""
    context = spark.sparkContext._jsc.sc()
    before = context.getCheckpointDir()
    if work_path is None and not is_local(spark):
        if before.isEmpty():
            log.warning("lineage grows with every iteration: give ALS a work_path for checkpoints")
        yield
        return
    folder = storage.join(work_path or tempfile.gettempdir(), f"checkpoints-{uuid.uuid4().hex}")
    context.setCheckpointDir(storage.spark_path(folder))
    try:
        yield
    finally:
        # Its public setter cannot take a directory back.
        getattr(context, "checkpointDir_$eq")(before)
        storage.remove(folder)

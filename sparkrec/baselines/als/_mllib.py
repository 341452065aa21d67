"""Runs Spark MLlib's ALS on events: numbers the ids, fixes the order and sets up checkpoints."""

import contextlib
import logging
import math
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
from sparkrec.scratch import scratch_folder
from sparkrec.session import is_local
from sparkrec.spark_versions import from_arrow, to_arrow

log = logging.getLogger("sparkrec.als")

USER = "_sr_user"
_ITEM = "_sr_item"


def pair_events(
    events: DataFrame, user: str, item: str, rating: str | None, once: bool
) -> DataFrame:
    """Make one row per pair of user and item: `rating`, and `events`, the number of its events.

    Parameters
    ----------
    rating
        Column of the rating; None makes each event a rating of 1. Events without a user, an item
        or a rating are left out.
    once
        Whether a pair with several events gets the largest rating; if not, it gets the sum.
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
    """Mean rating of an event; with `positive`, of the pairs with a rating above 0 only.

    Raises
    ------
    DataError
        There is no such event, or a rating is infinite.
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
    """Compute the factors of the items and of the users.

    Parameters
    ----------
    pairs
        Output of `pair_events`.
    als
        MLlib's estimator; its input columns are set here.
    work_path
        Folder for checkpoints during the fit; see `ALS`.

    Returns
    -------
    items, users
        float32 [items, rank] in the catalogue's order, zeros for an item without a rating; and a
        DataFrame with one row per user, the raw id (`USER`) and array<float> [rank] (`FACTOR`),
        stored on the executors.
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
    """Give each user an int `id` that depends only on the set of users and on `blocks`."""
    users = pairs.select(USER).distinct().withColumn("block", F.pmod(F.hash(USER), F.lit(blocks)))
    row = F.row_number().over(Window.partitionBy("block").orderBy(USER)) - 1
    return users.select(USER, (row * blocks + F.col("block")).alias("id"))


def _ratings(pairs: DataFrame, users: DataFrame, catalogue: Catalogue, blocks: int) -> DataFrame:
    """The input of MLlib: `id` of the user, `item`, `rating`, in a fixed order and partitioning.

    MLlib's random initial vectors depend on the sets of users and items in its blocks, but its
    floating-point sums depend on the order of the ratings.
    """
    numbers = pa.array(np.arange(len(catalogue), dtype=np.int32))
    items = from_arrow(pairs.sparkSession, pa.table({_ITEM: catalogue.ids, "item": numbers}))
    numbered = pairs.join(users, USER).join(F.broadcast(items), _ITEM)
    chosen = numbered.select("id", "item", F.col("rating").cast("float").alias("rating"))
    return chosen.repartition(blocks, "id").sortWithinPartitions("id", "item")


def _dense(factors: DataFrame, items: int, rank: int) -> Floats:
    """Collect MLlib's factors (`id`, `features`) as a matrix [items, rank]."""
    table = to_arrow(factors)
    vectors = np.zeros((items, rank), np.float32)
    flat = pa.compute.list_flatten(table.column("features").combine_chunks())
    vectors[table.column("id").to_numpy()] = flat.to_numpy().reshape(-1, rank)
    return vectors


@contextmanager
def _checkpoints(spark: SparkSession, work_path: str | None) -> Iterator[None]:
    """Set a checkpoint directory of the Spark context during the block, then remove it."""
    context = spark.sparkContext._jsc.sc()
    before = context.getCheckpointDir()
    if work_path is None and not is_local(spark):
        if before.isEmpty():
            log.warning("the lineage grows with every iteration: set work_path for checkpoints")
        yield
        return
    with contextlib.ExitStack() as stack:
        place = work_path or str(stack.enter_context(scratch_folder()))
        folder = storage.join(place, f"als-{uuid.uuid4().hex}")
        stack.callback(storage.remove, folder)
        context.setCheckpointDir(storage.spark_path(folder))
        # The public setter cannot unset the directory.
        stack.callback(getattr(context, "checkpointDir_$eq"), before)
        yield

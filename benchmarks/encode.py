"""Training rows to encoded parquet: rows of each part filtered before they are encoded, or after.

Run by `make bench`. Rows are made with a seed's worth of arithmetic: a user, a history of 10 items,
an item, and a mark on every tenth row, which is held out. The reference encodes all rows for each
of the two parts and filters afterwards. Both read the same parquet and write the same files. CPU
seconds are those of all processes, Python workers and JVM included; each side's figures are those
of its cheapest run, the two taken turn by turn.
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _measure import Figures, measure, report, start_session
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.encode import HELD_OUT, ORDER, _RowEncoder, encode_rows, write_rows
from sparkrec.encoding.sides import QueryEncoder
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.parser import feature_schema

USERS, ITEMS, HISTORY, SEED, WORKERS = 6040, 3700, 10, 1, 1
SCHEMA = feature_schema("user_id\nrecent", "columns", "user_id\nrecent", "combine")
NAMES = [*(f"user_{column}" for column in range(HISTORY + 1)), "item"]


def write_events(spark: SparkSession, folder: str, rows: int) -> DataFrame:
    """Rows in parquet, as `match_dataset` leaves them."""
    spark.range(rows, numPartitions=8).selectExpr(
        f"abs(hash(id)) % {USERS} AS user_id",
        f"transform(sequence(1, {HISTORY}), i -> abs(hash(id, i)) % {ITEMS}) AS recent",
        f"abs(hash(id, 0)) % {ITEMS} AS item_id",
        "id AS position",
        f"id % 10 = 0 AS {HELD_OUT}",
    ).write.parquet(folder)
    return spark.read.parquet(folder)


def make_encoder() -> QueryEncoder:
    """With a vocabulary of all users and items."""
    items = [[item] for item in range(ITEMS)] + [[0]] * (USERS - ITEMS)
    table = pa.table({"user_id": np.arange(USERS, dtype=np.int32), "recent": items})
    empty = FeatureEncoder(SCHEMA, {"recent": HISTORY}, np.zeros(0, np.uint64))
    features = empty.grow(empty.distinct_hashes(table))
    ids = pa.array(np.arange(ITEMS, dtype=np.int32))
    return QueryEncoder(SCHEMA, features, Catalogue(ids, np.ones(ITEMS, np.int64)))


def encode_then_filter(train: DataFrame, encoder: QueryEncoder, path: str) -> None:
    """The reference: what `encode_rows` writes, with the filter behind the encoder."""
    names = sorted(name for name in train.columns if name != HELD_OUT)
    key = F.xxhash64(F.lit(SEED), *names)
    source = train.select("user_id", "recent", "item_id", HELD_OUT, key.alias(ORDER))
    encode = _RowEncoder(encoder, "item_id", 0, [ORDER, *NAMES])

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for encoded in encode([batch]):
                yield encoded.append_column(HELD_OUT, batch.column(HELD_OUT))

    kinds = [T.StructField(name, T.LongType(), nullable=False) for name in (ORDER, *NAMES)]
    encoded = source.mapInArrow(
        run, T.StructType([*kinds, T.StructField(HELD_OUT, T.BooleanType())])
    )
    counts = {row[HELD_OUT]: row["count"] for row in source.groupBy(HELD_OUT).count().collect()}
    for part, held in (("fit", False), ("held_out", True)):
        chosen = encoded.where(F.col(HELD_OUT) == held)
        write_rows(chosen, NAMES, counts[held], str(Path(path, part)), WORKERS)


def same_files(one: Path, other: Path) -> bool:
    """Whether two folders have the same rows in the same order in as many files."""
    pairs = [sorted(folder.rglob("*.parquet")) for folder in (one, other)]
    if len(pairs[0]) != len(pairs[1]):
        return False
    return all(
        pq.ParquetFile(a).read().equals(pq.ParquetFile(b).read())
        for a, b in zip(*pairs, strict=True)
    )


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    spark, _ = start_session("encode")
    encoder = make_encoder()
    with tempfile.TemporaryDirectory() as folder:
        train = write_events(spark, f"{folder}/events", options.rows)
        encode_then_filter(train, encoder, f"{folder}/warm")
        runs: dict[str, list[Figures]] = {"filtered first": [], "filtered last": []}
        for turn in range(options.repeats):
            ours, theirs = Path(folder, f"ours_{turn}"), Path(folder, f"theirs_{turn}")
            encode = partial(encode_rows, train, "item_id", encoder, str(ours), WORKERS, SEED)
            runs["filtered first"].append(measure(spark, encode)[1])
            reference = partial(encode_then_filter, train, encoder, str(theirs))
            runs["filtered last"].append(measure(spark, reference)[1])
        same = all(same_files(ours / part, theirs / part) for part in ("fit", "held_out"))
    rows = {
        name: min(figures, key=lambda run: float(run["cpu_seconds"]))
        for name, figures in runs.items()
    }
    first, last = rows.values()
    ratios = {
        "seconds, to filtered last": first["seconds"] / last["seconds"],
        "CPU seconds, to filtered last": first["cpu_seconds"] / last["cpu_seconds"],
        "same files": float(same),
    }
    report(rows, ratios)
    spark.stop()


if __name__ == "__main__":
    main()

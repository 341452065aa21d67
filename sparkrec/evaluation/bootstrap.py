"""Cluster bootstrap over users on the executors, without collecting the users.

In each replicate of the Poisson bootstrap, each user has a weight drawn from Poisson(1) instead of
the number of times that the user occurs in a resample of fixed size. Weights are independent, so
each partition computes partial sums, which are added (Hanley & MacGibbon 2006, Creating
non-parametric bootstrap samples using Poisson frequencies; Chamandy et al. 2012, Estimating
uncertainty for massive data streams). A weight is a pure function of (seed, user, replicate), so
the result does not depend on the partitions and the order of rows.
"""

from collections.abc import Iterator, Sequence
from math import exp, factorial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, IntegerType, StructField, StructType

from sparkrec.splitmix64 import GOLDEN, finalise

_CHUNK_USERS = 512  # 512 users x 1000 replicates x 8 bytes = 4 MB of weights at a time


def _poisson_table() -> np.ndarray:
    """Poisson(1) by inversion, for each of 65536 equal intervals of [0, 1)."""
    cdf = np.cumsum([exp(-1.0) / factorial(count) for count in range(12)])
    return np.searchsorted(cdf, (np.arange(65536) + 0.5) / 65536, side="right").astype(np.float64)


_POISSON = _poisson_table()


def poisson_weights(user_hash: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Bootstrap weights of users, a pure function of (seed, user, replicate).

    The hash of a user is the key of a SplitMix64 stream. Every 64-bit word of the stream gives four
    draws of 16 bits, which are inverted with the distribution function of Poisson(1).

    Parameters
    ----------
    user_hash
        int64 [users], a hash of each user's id.
    replicates
        Number of replicates.
    seed
        Any integer.

    Returns
    -------
    float64 [users, replicates], with integer values.
    """
    words = -(-replicates // 4)
    key = np.ascontiguousarray(user_hash).view(np.uint64) ^ finalise(
        np.array([(seed * GOLDEN + 1) % 2**64], np.uint64)
    )
    steps = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    bits = finalise(finalise(key)[:, None] + steps)
    return _POISSON[bits.view(np.uint16)[:, :replicates]]


def bootstrap_sums(
    rows: DataFrame, hashes: Sequence[str], values: Sequence[str], replicates: int, seed: int
) -> np.ndarray:
    """Sum columns over rows, without weights and with the weights of each bootstrap replicate.

    Parameters
    ----------
    rows
        One row per user, or per user and item, with the columns of `values` (double, no nulls).
    hashes
        Columns of the hashes of what is resampled (bigint), such as the user id. With several, the
        weight of a row is the product of their weights.
    values
        Columns to sum.
    replicates, seed
        See `poisson_weights`.

    Returns
    -------
    float64 [replicates + 1, values]. Row 0 has the plain sums.

    Notes
    -----
    The executors make rows * replicates draws for each of `hashes`, at about 5 ns each. The output
    of a partition has one row per replicate, and the driver collects replicates + 1 rows, whatever
    the number of rows.
    """
    names = list(values)

    def partial_sums(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = np.zeros((replicates + 1, len(names)))
        for batch in batches:
            keys = [batch.column(name).to_numpy() for name in hashes]
            table = np.column_stack([batch.column(name).to_numpy() for name in names])
            sums[0] += table.sum(axis=0)
            for start in range(0, len(table), _CHUNK_USERS):
                chunk = slice(start, start + _CHUNK_USERS)
                weights = poisson_weights(keys[0][chunk], replicates, seed)
                for number, other in enumerate(keys[1:], 1):
                    weights *= poisson_weights(other[chunk], replicates, seed + number)
                sums[1:] += weights.T @ table[chunk]
        columns = [pa.array(np.arange(replicates + 1, dtype=np.int32))]
        columns += [pa.array(column) for column in np.ascontiguousarray(sums.T)]
        yield pa.RecordBatch.from_arrays(columns, names=["replicate", *names])

    fields = [StructField("replicate", IntegerType())]
    fields += [StructField(name, DoubleType()) for name in names]
    partials = rows.select(*hashes, *names).mapInArrow(partial_sums, StructType(fields))
    summed = partials.groupBy("replicate").agg(*(F.sum(name).alias(name) for name in names))
    table = np.array([tuple(row) for row in summed.collect()], dtype=np.float64)
    return table[np.argsort(table[:, 0]), 1:]


def ratios(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The ratio of two sums in each replicate; NaN where all weights are 0."""
    drawn = denominator > 0
    return np.where(drawn, numerator / np.where(drawn, denominator, 1.0), np.nan)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The percentile interval, 2.5% to 97.5%, of a value over the replicates.

    Replicates with NaN are left out; the interval is (0, 0) if there are no others.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return 0.0, 0.0
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)

"""Events to encoded windows, the training rows of sequence models."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec.columns import Columns
from sparkrec.encoding.encode import HELD_OUT, ORDER, Encoded, column_type, write_rows
from sparkrec.encoding.queries import join_users
from sparkrec.encoding.sides import QueryEncoder, recent_items, recent_values
from sparkrec.errors import DataError
from sparkrec.feed.feed import column_names
from sparkrec.io import storage
from sparkrec.io.publishing import part
from sparkrec.transforms.windows import WINDOW, item_windows

Ints = npt.NDArray[np.int64]

WEIGHTS, BEFORE = "weights", "before"
_SESSIONS = "_sr_sessions"


def encode_windows(
    train: DataFrame,
    columns: Columns,
    user_encoder: QueryEncoder,
    users: DataFrame | None,
    path: str,
    workers: int,
    seed: int,
    weight: Column | None = None,
    session: str | None = None,
) -> Encoded:
    """Write the windows of a sequence model (see `transforms.windows`), and publish them.

    A row has `items_0..`, dense indices, oldest first and 0 behind the last, and `user_0..`, the
    embedding rows of the user's features, if the model reads any. Windows of all events lie under
    `path`/all, and those without the events held out for validation under `path`/fit.

    Parameters
    ----------
    train
        Events, optionally with `is_validation`.
    user_encoder
        Its `length` is the number of items of a window that are read; a row has one more.
    users
        Table with the columns of the other features, joined by the user; None if train's users
        have none but their id.
    weight
        Weight of each event; a row then also has `weights_0..`, those of its items.
    session
        Column of the session, if an event is to be predicted from earlier sessions alone. A row
        then also has `before_0..`: for each item the number of items of the window that come before
        its session. It is 0 in the first session of a window.

    Raises
    ------
    DataError
        No user has two events, or, with `session`, two sessions.
    """
    steps, catalogue, features = user_encoder.length, user_encoder.catalogue, user_encoder.features
    beside: dict[str, Column] = {}
    if weight is not None:
        beside[WEIGHTS] = weight
    if session is not None:
        beside[_SESSIONS] = F.xxhash64(F.col(f"`{session}`"))
    # Executors get the names alone; Spark's columns stay in the driver.
    named = tuple(beside)
    fields = dict.fromkeys(["items", *([WEIGHTS] if weight is not None else [])], steps + 1)
    if session is not None:
        fields[BEFORE] = steps + 1
    if features.width:
        fields["user"] = features.width
    names = [name for field, width in fields.items() for name in column_names(field, width)]
    types = [T.StructField(name, column_type(name), nullable=False) for name in (ORDER, *names)]

    def encode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            lists = batch.column(WINDOW)
            parts: list[npt.NDArray[Any]] = [recent_items(lists, steps + 1, catalogue)]
            for name in named:
                values = recent_values(lists, batch.column(name), steps + 1, catalogue)
                parts.append(items_before(values) if name == _SESSIONS else values)
            if features.width:
                parts.append(features.encode(batch))
            arrays = [batch.column(ORDER)]
            for part_of in parts:
                arrays += map(pa.array, np.asfortranarray(part_of).T)
            yield pa.RecordBatch.from_arrays(arrays, [ORDER, *names])

    tables = {"all": train}
    if HELD_OUT in train.columns:
        tables["fit"] = train.where(~F.col(HELD_OUT))
    rows = {}
    with part(path) as folder:
        for name, events in tables.items():
            windows = item_windows(events, columns, steps, beside)
            if session is not None:
                windows = windows.where(F.size(F.array_distinct(_SESSIONS)) > 1)
            rows[name] = windows.count()
            if not rows[name]:
                raise DataError(_nothing_follows(session))
            order = F.xxhash64(F.lit(seed), F.col(columns.user), F.col(WINDOW))
            used = features.schema.used_columns
            joined = join_users(windows, users, used, columns.user)
            keyed = joined.select(order.alias(ORDER), WINDOW, *beside, *used)
            encoded = keyed.mapInArrow(encode, T.StructType(types))
            write_rows(encoded, names, rows[name], storage.join(folder, name), workers)
    whole = storage.join(path, "all")
    fit = storage.join(path, "fit") if "fit" in tables else whole
    return Encoded(whole, fit, fields, rows["all"])


def items_before(sessions: Ints) -> Ints:
    """The number of items before the session of each item, [rows, items], from its session."""
    starts = np.zeros_like(sessions)
    places = np.arange(1, sessions.shape[1])
    starts[:, 1:] = np.where(sessions[:, 1:] != sessions[:, :-1], places, 0)
    found: Ints = np.maximum.accumulate(starts, axis=1)
    return found


def _nothing_follows(session: str | None) -> str:
    if session is None:
        return "no user of train has two events, so no item follows another"
    return (
        f"no user of train has events of two sessions (column `{session}`), so no session follows "
        "another; set training.by_session: false"
    )

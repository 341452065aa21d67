"""Checks the items that are to be added to a trained model's catalogue, or taken out of it."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import ConfigError, DataError
from sparkrec.io.tables import KEY_TYPES, require_columns
from sparkrec.schema.parser import FeatureSchema
from sparkrec.spark_versions import to_arrow

log = logging.getLogger("sparkrec.retrieval")


def read_new_items(
    items: DataFrame, item: str, catalogue: Catalogue, declared: FeatureSchema
) -> pa.Table:
    """The rows of a table of items that a catalogue does not know, collected on the driver.

    Parameters
    ----------
    item
        Column of the items' ids.
    declared
        The features of items that the model reads.

    Returns
    -------
    pa.Table
        The column `item` in the catalogue's type, and the columns of the features.

    Raises
    ------
    DataError, SchemaError
        A column is missing or of another type than the catalogue's, or an id is null or repeated.
    """
    require_columns(items, {item: KEY_TYPES}, "new items")
    declared.require(items.columns, "new items", True)
    read = dict.fromkeys(column for f in declared.features for column in f.columns)
    table = to_arrow(items.select(item, *(name for name in read if name != item)))
    ids = ids_like(catalogue, table.column(item).combine_chunks(), "new items")
    if ids.null_count:
        raise DataError(f"new items: {ids.null_count:,} rows have no {item}")
    known = catalogue.numbers(ids) >= 0
    if known.any():
        log.info("add_items: %d items are left out, the model knows them", known.sum())
    new = table.set_column(0, item, ids).filter(pa.array(~known))
    repeated = pa.compute.value_counts(new.column(item)).field("counts")
    if len(repeated) < len(new):
        raise DataError(f"new items: a {item} stands in {max(repeated.to_pylist())} rows")
    return new


def refuse_score(score: float, model: str) -> None:
    """Raise ConfigError if a score of new items is given to a model that cannot use it."""
    if score:
        raise ConfigError(
            f"{model} has no bias of items, so the scores of new items cannot be raised or "
            "lowered; leave out the score of new items"
        )


def kept_items(ids: Sequence[Any], catalogue: Catalogue) -> npt.NDArray[np.bool_]:
    """Mask [items] of the items that are left when some are taken out by raw id.

    Raises
    ------
    DataError
        The ids are of another type than the catalogue's, or no item would be left.
    """
    try:
        given = ids_like(catalogue, pa.array(list(ids)), "remove_items")
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"remove_items: the ids must be of one type: {error}") from None
    kept = np.ones(len(catalogue), bool)
    numbers = catalogue.numbers(given)
    kept[numbers[numbers >= 0]] = False
    unknown = int((numbers < 0).sum())
    if unknown:
        log.warning("remove_items: the model does not know %d of the items", unknown)
    if not kept.any():
        raise DataError("remove_items: no item would be left")
    return kept


def ids_like(catalogue: Catalogue, ids: pa.Array, where: str) -> pa.Array:
    """Raw ids in the type of a catalogue's; DataError, with `where` in it, for any other type."""
    wanted = catalogue.ids.type
    if len(ids) and pa.types.is_integer(ids.type) == pa.types.is_integer(wanted):
        try:
            return ids.cast(wanted)
        except pa.ArrowException:
            pass  # a number that is too large for the type, for one
    elif not len(ids):
        return pa.array([], wanted)
    raise DataError(
        f"{where}: the ids of items are of type {ids.type}, those of the model {wanted}"
    )

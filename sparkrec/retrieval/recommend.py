"""Top-k for every query, on the executors.

The searcher is broadcast once and unpacked once per Python worker; queries stream through it as
Arrow batches.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from sparkrec.errors import DataError
from sparkrec.retrieval.search.allowed import Allowed, require_timestamp
from sparkrec.retrieval.search.searcher import Searcher, SearchOptions, search_batch

RECOMMENDED = "recommended"
_BATCH_ROWS = 4096


def recommend(
    queries: DataFrame,
    searcher: Searcher,
    item_type: T.DataType,
    options: SearchOptions,
    allowed: Allowed | None = None,
) -> DataFrame:
    """Add `recommended`: array<struct<item_id, score>>, best first, to every query.

    Parameters
    ----------
    queries
        One row a query, with the history (array of raw item ids) and what the searcher reads.
    item_type
        Spark's type of the item ids.
    allowed
        The candidates, `options.allowed(...)`; all items by default.

    Raises
    ------
    DataError
        Seen items are to be excluded, and the queries have no history; or the candidates depend on
        the time of a query, and the queries have none.

    Notes
    -----
    A query with fewer than k items to give gets a shorter array.
    """
    if options.history not in queries.columns and options.exclude_seen:
        raise DataError(
            f"queries have no `{options.history}` column, which excluding seen items needs "
            f"(they have {', '.join(queries.columns)})"
        )
    if allowed is not None and allowed.by_time:
        require_timestamp(queries.columns, options.timestamp)
    fields = [field for field in queries.schema.fields if field.name != RECOMMENDED]
    entry = T.StructType(
        [T.StructField("item_id", item_type), T.StructField("score", T.DoubleType())]
    )
    schema = T.StructType([*fields, T.StructField(RECOMMENDED, T.ArrayType(entry))])
    shared = queries.sparkSession.sparkContext.broadcast((searcher, allowed))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine, mask = shared.value
        mine.use_one_thread()
        for whole in batches:
            for start in range(0, whole.num_rows, _BATCH_ROWS):
                batch = whole.slice(start, _BATCH_ROWS)
                lists = search_batch(mine, batch, options, mask)
                yield pa.RecordBatch.from_arrays(
                    [*batch.columns, lists], [*batch.schema.names, RECOMMENDED]
                )

    return queries.select(*[f"`{field.name}`" for field in fields]).mapInArrow(run, schema)

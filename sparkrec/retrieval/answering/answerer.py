"""A saved model of any kind that answers queries in this process."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pyarrow as pa

from sparkrec.errors import ConfigError, DataError, StorageError
from sparkrec.models.registry import find_class
from sparkrec.retrieval.answering.folder import saved_model
from sparkrec.retrieval.search.candidates import Candidates
from sparkrec.retrieval.search.searcher import Searcher, SearchOptions, search_batch

Answer = list[tuple[Any, float]]


class Answerer:
    """Answers queries with a searcher, as the model's `transform` does on Spark.

    Parameters
    ----------
    searcher
        What finds the items.
    options
        What is asked where a call does not say otherwise.
    items
        Table of items with the id and the columns that candidate rules read.
    """

    def __init__(
        self, searcher: Searcher, options: SearchOptions, items: pa.Table | None = None
    ) -> None:
        self.searcher, self.options, self.items = searcher, options, items

    def answer(
        self, queries: Sequence[Sequence[Any] | None] | pa.Table, **options: Any
    ) -> list[Answer]:
        """The best items of every query, best first: (raw item id, score) pairs.

        Parameters
        ----------
        queries
            Histories, each a sequence of raw item ids, oldest first; or a table with the history
            column and any others that the model reads (user id, features, columns of segments).
            What the table lacks counts as unknown.
        options
            Fields of `SearchOptions` that differ from the saved model's: `k`, `exclude_seen`,
            `candidates` (rules, their JSON, or a list of item ids), `fallback`.

        Raises
        ------
        DataError
            Items are of another type than the model's, or candidate rules do not fit the items or
            the queries.
        ConfigError
            Candidate rules are malformed, or read columns of items, and there is no table of them.
        TypeError
            There is no such option.
        """
        known = {field.name for field in fields(SearchOptions)}
        for name in options:
            if name not in known:
                raise TypeError(f"unknown option {name!r}; known: {', '.join(sorted(known))}")
        asked = replace(self.options, **options)
        asked = replace(asked, candidates=Candidates.of(asked.candidates))
        if asked.k < 1:
            raise ValueError("k must be at least 1")
        table = queries if isinstance(queries, pa.Table) else self._histories(queries, asked)
        if asked.history not in table.column_names:
            raise DataError(
                f"queries have no `{asked.history}` column (they have "
                f"{', '.join(table.column_names)})"
            )
        prepared = self.searcher.prepare(table).combine_chunks()
        allowed = asked.allowed(self.searcher.catalogue, self.items)
        answers: list[Answer] = []
        for batch in prepared.to_batches(max_chunksize=4096):
            lists = search_batch(self.searcher, batch, asked, allowed)
            answers += [
                [tuple(entry.values()) for entry in entries] for entries in lists.to_pylist()
            ]
        return answers

    def _histories(
        self, histories: Sequence[Sequence[Any] | None], options: SearchOptions
    ) -> pa.Table:
        kind = self.searcher.catalogue.ids.type
        wide = pa.int64() if pa.types.is_integer(kind) else kind
        try:
            lists = [None if history is None else list(history) for history in histories]
            return pa.table({options.history: pa.array(lists, pa.list_(wide))})
        except (pa.ArrowException, TypeError) as error:
            raise DataError(
                f"histories must be sequences of item ids of type {kind}: {error}"
            ) from None


def load(path: str, items: pa.Table | None = None) -> Answerer:
    """Load a saved model, local or on S3, for answering without Spark.

    `items` has the columns of items that candidate rules read.

    Raises
    ------
    StorageError
        Nothing is there, it was never finished, it is no model, or its classes cannot be imported.
    """
    with saved_model(path) as (folder, description):
        try:
            found = find_class(description["searcher"])
        except ConfigError as error:
            raise StorageError(f"{path}: {error}") from None
        if not issubclass(found, Searcher):
            raise StorageError(
                f"{path} is no saved model: its searcher is {description['searcher']}"
            )
        options = SearchOptions.of_params(description["params"])
        return Answerer(found.restore(folder, description), options, items)

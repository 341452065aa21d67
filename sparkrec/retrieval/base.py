"""The interface of every retriever, count-based or neural: fit, transform, save, load.

Every one is a `pyspark.ml` Estimator and Model with snake_case params:
``estimator.fit(train) -> model``; ``model.transform(queries)`` adds `recommended`;
``model.save(path)``, ``Model.load(path)``.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import pyarrow as pa
from pyspark.ml import Estimator, Model
from pyspark.ml.util import MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import ConfigError, DataError, StorageError
from sparkrec.io import storage
from sparkrec.io.publishing import part, publish
from sparkrec.models.registry import class_path
from sparkrec.retrieval.answering.folder import DESCRIPTION, saved_model
from sparkrec.retrieval.params import ConfigParams, RetrievalParams
from sparkrec.retrieval.recommend import recommend
from sparkrec.retrieval.search.candidates import Candidates
from sparkrec.retrieval.search.searcher import Searcher
from sparkrec.spark_versions import to_arrow

M = TypeVar("M", bound="RetrievalModel")


class Retriever(Estimator["RetrievalModel"], ConfigParams):
    """Base of the estimators: `fit(train)` gives a model of `model_class`.

    Parameters
    ----------
    config
        The `model:` block of a conf as its dataclass, or anything with the blocks of
        `config_blocks` as attributes (a job's config, say); the dataclasses' defaults otherwise.
    users
        Table with features of users that train and the queries do not have, one row a user.
    work_path
        Folder for what is written during `fit`, which all workers reach.
    params
        By name, snake_case: those of every retriever, and the fields of the config's blocks.
    """

    model_class: ClassVar[type["RetrievalModel"]]
    # Folder for models that are written while `fit` goes on, by those that write some.
    models_path: str | None = None

    def __init__(
        self,
        config: Any = None,
        *,
        users: DataFrame | None = None,
        work_path: str | None = None,
        **params: Any,
    ) -> None:
        super().__init__(config)
        self.users, self.work_path = users, work_path
        if self.hasParam("seed"):
            self._setDefault(seed=getattr(config, "seed", 0))
        self.set_params(**params)


class RetrievalModel(Model, RetrievalParams, MLWritable, MLReadable["RetrievalModel"]):
    """Base of the models: `transform(queries)` adds `recommended`.

    A query has any key columns, the history column (array of item ids, oldest first), and, where
    the model has a user side, a user id and the feature columns of its schema.
    """

    searcher_class: ClassVar[type[Searcher]]
    # Params that `mode: [infer]` takes from the conf, because they affect answers, not training.
    query_params: ClassVar[tuple[str, ...]] = ()

    catalogue: Catalogue
    # Features of users that the queries lack, and columns of items that the candidate rules read.
    users: DataFrame | None = None
    items: DataFrame | None = None

    @property
    def fit_report(self) -> dict[str, Any]:
        """Facts about the fit: `seconds` of its parts, and the model's own entries."""
        return {}

    @property
    def item_type(self) -> T.DataType:
        """Spark's type of the item ids."""
        from pyspark.sql.pandas.types import from_arrow_type

        return from_arrow_type(self.catalogue.ids.type)

    @property
    def wanted_columns(self) -> tuple[str, ...]:
        """Columns of the queries that the model reads beside the history."""
        return ()

    def searcher(self) -> Searcher:
        """What is sent to the executors to answer queries."""
        raise NotImplementedError

    def prepare_queries(self, queries: DataFrame) -> DataFrame:
        """Add what the searcher reads to the queries; they are returned as they are by default."""
        return queries

    def add_items(self: M, items: DataFrame, score: float = 0.0) -> M:
        """A new model whose catalogue and index also have items that training never saw.

        They get their vectors from their content, may stand in histories, and are recommended like
        any other item.

        Parameters
        ----------
        items
            Table with a row an item: the item's id, and the columns of the items' table that the
            model reads. Items that the model knows are left out.
        score
            Added to all scores of these items, so that they take fewer places of the lists (below
            0) or more. It does not change their order among themselves.

        Raises
        ------
        ConfigError
            The model knows items by their ids alone, or a score is given and the model has no bias
            of items.
        DataError, SchemaError
            A column is missing or of another type than in training, or an id is null or repeated.
        """
        raise ConfigError(
            f"{type(self).__name__} knows items by the events of train alone, so it cannot score "
            "items that no event has; a model that reads the content of items can (DSSM with item "
            "features, or a sequence model with items: both)"
        )

    def remove_items(self: M, ids: Sequence[Any]) -> M:
        """A new model without some items, by raw id; ids that it does not know are left out.

        They are not recommended any more, and are unknown in histories.

        Raises
        ------
        ConfigError
            The model's items cannot be taken out.
        DataError
            No item would be left.
        """
        raise ConfigError(
            f"the items of {type(self).__name__} cannot be taken out; name the items to give in "
            "the param `candidates`"
        )

    def _candidate_columns(self, rules: Candidates | None) -> pa.Table | None:
        """The columns of the items' table that candidate rules read, collected on the driver."""
        if rules is None or not rules.columns or self.items is None:
            return None
        wanted = [self.get("item_col"), *rules.columns]
        known = [name for name in dict.fromkeys(wanted) if name in self.items.columns]
        return to_arrow(self.items.select(known))

    def _like_me(self: M, model: M) -> M:
        """Another model of the class, with the params and tables of this one."""
        model.users, model.items = self.users, self.items
        for param, value in self.extractParamMap().items():
            model._set(**{param.name: value})
        return model

    def tables(self, spark: SparkSession) -> dict[str, DataFrame]:
        """Tables that a run exports for people and other systems, by the name of their folder."""
        return {}

    def _transform(self, dataset: DataFrame) -> DataFrame:
        prepared = self.prepare_queries(dataset)
        options = self.search_options
        allowed = options.allowed(self.catalogue, self._candidate_columns(options.candidates))
        answered = recommend(prepared, self.searcher(), self.item_type, options, allowed)
        kept = [name for name in dataset.columns if name != "recommended"]
        return answered.select(*[f"`{name}`" for name in kept], "recommended")

    # --------------------------------------------------------------------------- persistence

    def write_parts(self, folder: str) -> dict[str, Any]:
        """Write the model's files below `folder`; returns its entries for `model.json`."""
        raise NotImplementedError

    @classmethod
    def read_parts(cls: type[M], folder: str, description: dict[str, Any]) -> M:
        """The model that `write_parts` wrote."""
        raise NotImplementedError

    def save(self, path: str, overwrite: bool = False) -> None:
        """Save as a new version of a local or `s3://` folder, published as a whole.

        Raises
        ------
        StorageError
            The path holds anything else than earlier models of this class.
        ConfigError
            The model's class is not in a module that another process can import.
        """
        with publish(path, f"model:{type(self).__name__}", overwrite, hashes=True) as folder:
            self.write_folder(folder)

    def save_part(self, folder: str) -> None:
        """Save as a part of a run, into a folder of the run."""
        with part(folder, hashes=True):
            self.write_folder(folder)

    def write_folder(self, folder: str) -> None:
        """Write the files of the model into a folder, which does not become a saved model by it."""
        classes = {"class": class_path(type(self)), "searcher": class_path(self.searcher_class)}
        parts = self.write_parts(folder)
        params = {
            param.name: value
            for param, value in self.extractParamMap().items()
            if isinstance(value, str | int | float | bool | list | type(None))
        }
        if (rules := self.get("candidates")) is not None:
            params["candidates"] = rules.to_json()
        storage.write_json(
            storage.join(folder, DESCRIPTION), {**classes, "params": params, **parts}
        )

    @classmethod
    def load(cls: type[M], path: str) -> M:
        """Load what `save` wrote.

        Raises
        ------
        StorageError
            Nothing is there, it was never finished, a file is damaged, or it is a model of another
            class.
        """
        with saved_model(path) as (folder, description):
            if description["class"] != f"{cls.__module__}:{cls.__qualname__}":
                name = description["class"].partition(":")[2]
                raise StorageError(
                    f"{path} holds a {name}, not a {cls.__name__}; load it with {name}.load"
                )
            return cls.restore(folder, description)

    @classmethod
    def restore(cls: type[M], folder: str, description: dict[str, Any]) -> M:
        """The model of a folder whose files were checked, with the contents of its model.json."""
        model = cls.read_parts(folder, description)
        params = description["params"]
        model.set_params(**{k: v for k, v in params.items() if model.hasParam(k)})
        return model

    def write(self) -> MLWriter:
        """pyspark.ml's way to save: `model.write().overwrite().save(path)`."""
        return _Writer(self)

    @classmethod
    def read(cls: type[M]) -> MLReader[M]:
        """pyspark.ml's way to load: `Model.read().load(path)`."""
        return _Reader(cls)


class _Writer(MLWriter):
    def __init__(self, model: RetrievalModel) -> None:
        super().__init__()
        self._model = model

    def save(self, path: str) -> None:
        self._model.save(path, overwrite=self.shouldOverwrite)


class _Reader(MLReader[M]):
    def __init__(self, kind: type[M]) -> None:
        super().__init__()
        self._kind = kind

    def load(self, path: str) -> M:
        return self._kind.load(path)


def require_history(queries: DataFrame, history: str) -> None:
    """Raise DataError unless the queries have the history column, as an array."""
    if history not in queries.columns:
        raise DataError(
            f"queries have no `{history}` column (they have {', '.join(queries.columns)})"
        )
    kind = queries.schema[history].dataType
    if not isinstance(kind, T.ArrayType):
        raise DataError(f"queries: column `{history}` is {kind.simpleString()}, not an array")

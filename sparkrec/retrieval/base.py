"""What every retriever can do, counted or neural: fit, transform, save, load.

Every one is a `pyspark.ml` Estimator and Model with snake_case params:
``estimator.fit(train) -> model``; ``model.transform(queries)`` adds `recommended`;
``model.save(path)``, ``Model.load(path)``.
"""

import json
from typing import Any, ClassVar, TypeVar

from pyspark.ml import Estimator, Model
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import DataError, StorageError
from sparkrec.io import storage
from sparkrec.io.publishing import publish, read_manifest
from sparkrec.retrieval.recommend import Searcher, recommend

M = TypeVar("M", bound="RetrievalModel")

_DESCRIPTION = "model.json"


class RetrievalParams(Params):
    """The params that every retriever has."""

    user_col = Param(Params._dummy(), "user_col", "user id", TypeConverters.toString)
    item_col = Param(Params._dummy(), "item_col", "item id", TypeConverters.toString)
    timestamp_col = Param(
        Params._dummy(), "timestamp_col", "event time, seconds", TypeConverters.toString
    )
    position_col = Param(
        Params._dummy(), "position_col", "row number in the raw input", TypeConverters.toString
    )
    history_col = Param(
        Params._dummy(),
        "history_col",
        "queries: array of the user's items, oldest first",
        TypeConverters.toString,
    )
    k = Param(Params._dummy(), "k", "items to recommend", TypeConverters.toInt)
    exclude_seen = Param(
        Params._dummy(),
        "exclude_seen",
        "never give an item of the history",
        TypeConverters.toBoolean,
    )
    candidates = Param(
        Params._dummy(),
        "candidates",
        "raw ids of the only items to give; None gives any item of train",
        lambda value: None if value is None else TypeConverters.toList(value),
    )
    fallback = Param(
        Params._dummy(),
        "fallback",
        "`none`, or `global_hot`: popular items for queries the model knows nothing about",
        TypeConverters.toString,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(
            user_col="user_id",
            item_col="item_id",
            timestamp_col="timestamp",
            position_col="position",
            history_col="history",
            k=20,
            exclude_seen=True,
            candidates=None,
            fallback="global_hot",
        )

    def set_params(self, **params: Any) -> "RetrievalParams":
        """Set several params by name; returns self."""
        unknown = [name for name in params if not self.hasParam(name)]
        if unknown:
            known = ", ".join(param.name for param in self.params)
            raise TypeError(f"unknown param {unknown[0]!r}; known: {known}")
        self._set(**params)
        if self.getOrDefault("k") < 1:
            raise ValueError("k must be at least 1")
        if self.getOrDefault("fallback") not in ("none", "global_hot"):
            raise ValueError("fallback must be `none` or `global_hot`")
        return self

    def get(self, name: str) -> Any:
        """The value of a param, set or default."""
        return self.getOrDefault(name)

    @property
    def columns(self) -> Columns:
        """The column names of an events table, as the params have them."""
        parts = ("user", "item", "timestamp", "position")
        return Columns(**{part: self.get(f"{part}_col") for part in parts})


class Retriever(Estimator["RetrievalModel"], RetrievalParams):
    """Base of the estimators: `fit(train)` gives a model of `model_class`."""

    model_class: ClassVar[type["RetrievalModel"]]


class RetrievalModel(Model, RetrievalParams, MLWritable, MLReadable["RetrievalModel"]):
    """Base of the models: `transform(queries)` adds `recommended`.

    A query has any key columns, the history column (array of item ids, oldest first), and, where
    the model has a user side, a user id and the feature columns of its schema.
    """

    catalogue: Catalogue
    users: DataFrame | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of the parts of `fit`, where the model itself took the time of them."""
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

    def _transform(self, dataset: DataFrame) -> DataFrame:
        prepared = self.prepare_queries(dataset)
        answered = recommend(
            prepared,
            self.searcher(),
            self.item_type,
            self.get("k"),
            self.get("exclude_seen"),
            self.get("history_col"),
            self.get("candidates"),
            self.get("fallback") == "global_hot",
        )
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
        """Save to a local or `s3://` folder, published as a whole.

        Raises
        ------
        StorageError
            The path holds anything else than an earlier model of this class.
        """
        with publish(path, f"model:{type(self).__name__}", overwrite) as staging:
            parts = self.write_parts(staging)
            params = {
                param.name: value
                for param, value in self.extractParamMap().items()
                if isinstance(value, str | int | float | bool | list | type(None))
            }
            description = {"class": type(self).__name__, "params": params, **parts}
            storage.write_bytes(
                storage.join(staging, _DESCRIPTION), json.dumps(description, indent=2).encode()
            )

    @classmethod
    def load(cls: type[M], path: str) -> M:
        """Load what `save` wrote.

        Raises
        ------
        StorageError
            Nothing is there, it was never finished, or it is a model of another class.
        """
        read_manifest(path)
        description = storage.read_json(storage.join(path, _DESCRIPTION))
        if description.get("class") != cls.__name__:
            raise StorageError(
                f"{path} holds a {description.get('class')}, not a {cls.__name__}; "
                f"load it with {description.get('class')}.load"
            )
        model = cls.read_parts(path, description)
        model._set(**{k: v for k, v in description["params"].items() if model.hasParam(k)})
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

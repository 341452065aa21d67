"""Params of the retrievers: those that every one has, and the fields of config dataclasses."""

import dataclasses
import inspect
from typing import Any, ClassVar

from pyspark.ml.param import Param, Params, TypeConverters

from sparkrec.columns import Columns
from sparkrec.config.describe import field_docs
from sparkrec.retrieval.search.candidates import Candidates
from sparkrec.retrieval.search.searcher import SearchOptions


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
    session_col = Param(
        Params._dummy(), "session_col", "session or basket of an event", TypeConverters.toString
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
        "which items may be given: rules (retrieval.search.candidates.Candidates), or the raw ids "
        "of the only items to give; None gives any item of train",
        Candidates.of,
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
            session_col=None,
            history_col="history",
            k=20,
            exclude_seen=True,
            candidates=None,
            fallback="global_hot",
        )

    def set_params(self, **params: Any) -> Any:
        """Set several params by name; returns self.

        Raises
        ------
        TypeError
            There is no such param.
        ValueError
            A value is out of range.
        """
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

    def explainParam(self, param: str | Param[Any]) -> str:  # noqa: N802  pyspark's name
        """A param's name, meaning, default and value. pyspark's own method fails on tuples."""
        found = self._resolveParam(param)
        values = []
        if self.hasDefault(found):
            values.append(f"default: {self._defaultParamMap[found]!r}")
        if self.isSet(found):
            values.append(f"current: {self._paramMap[found]!r}")
        return f"{found.name}: {found.doc} ({', '.join(values) or 'undefined'})"

    def get(self, name: str) -> Any:
        """The value of a param, set or default."""
        return self.getOrDefault(name)

    @property
    def columns(self) -> Columns:
        """The column names of an events table, as the params have them."""
        parts = ("user", "item", "timestamp", "position", "session")
        return Columns(**{part: self.get(f"{part}_col") for part in parts})

    @property
    def search_options(self) -> SearchOptions:
        """What a searcher is asked for."""
        names = ["k", "exclude_seen", "history_col", "candidates", "fallback"]
        names += ["item_col", "timestamp_col"]
        return SearchOptions.of_params({name: self.get(name) for name in names})


class ConfigParams(RetrievalParams):
    """Gives an Estimator or Model a param for each field of its config dataclasses.

    A subclass names them in `config_blocks`, by the name of their block in a conf. Params have the
    names of the fields, but

    - `loss.name` is the param `loss`;
    - a field of the `model` block that has the name of something else of the estimator (a field
      of another block, a param that every retriever has, an argument of its constructor) is the
      param `model_<field>`.

    Defaults are those of the dataclasses, whose `__post_init__` checks the values whenever params
    are set::

        class ItemCFModel(ConfigParams, RetrievalModel):
            config_blocks = {"model": ItemCFConfig}
    """

    config_blocks: ClassVar[dict[str, type[Any]]] = {}
    # Blocks whose defaults, without a config, are not those of the dataclass itself.
    block_defaults: ClassVar[dict[str, Any]] = {}
    # By (block, field).
    _names: ClassVar[dict[tuple[str, str], str]] = {}

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        taken = {name for base in cls.__mro__[1:] for name in vars(base)}
        taken |= set(inspect.signature(cls.__init__).parameters)
        taken -= set(cls._names.values())
        others = {
            _param_name(block, field.name)
            for block, kind in cls.config_blocks.items()
            if block != "model"
            for field in dataclasses.fields(kind)
        }
        cls._names = {}
        for block, kind in cls.config_blocks.items():
            docs = field_docs(kind)
            for field in dataclasses.fields(kind):
                name = _param_name(block, field.name)
                if block == "model" and (name in taken or name in others):
                    name = f"model_{field.name}"
                cls._names[block, field.name] = name
                if not isinstance(getattr(cls, name, None), Param):
                    doc = docs.get(field.name, f"{block}.{field.name}")
                    setattr(cls, name, Param(Params._dummy(), name, doc))

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        for block, kind in self.config_blocks.items():
            given = config if isinstance(config, kind) else getattr(config, block, None)
            values = given or self.block_defaults.get(block) or kind()
            for field in dataclasses.fields(kind):
                name = self._names[block, field.name]
                # A shared param, such as k, keeps every retriever's default unless a config sets
                # it.
                if given is not None or not hasattr(RetrievalParams, name):
                    self._setDefault(**{name: getattr(values, field.name)})

    def block(self, name: str) -> Any:
        """The params of a block as its dataclass.

        Raises
        ------
        ValueError
            A value is out of range.
        """
        kind = self.config_blocks[name]
        fields = [field.name for field in dataclasses.fields(kind)]
        values = {field: self.get(self._names[name, field]) for field in fields}
        try:
            return kind(**values)
        except ValueError as error:
            raise ValueError(f"{error}" if name == "model" else f"{name}.{error}") from None

    @property
    def config(self) -> Any:
        """The params of the `model` block as its dataclass."""
        return self.block("model")

    def param_name(self, block: str, field: str) -> str:
        """The param of a field of a block."""
        return self._names[block, field]

    def set_params(self, **params: Any) -> Any:
        """Set several params by name; returns self. See `RetrievalParams.set_params`."""
        super().set_params(**params)
        for name in self.config_blocks:
            self.block(name)
        return self

    def _copyValues(self, to: Any, extra: Any = None) -> Any:  # noqa: N802  pyspark's name
        """Copy the params that the model has; the others belong to training."""
        for param, value in self.extractParamMap(extra).items():
            if to.hasParam(param.name):
                to._set(**{param.name: value})
        return to


def _param_name(block: str, field: str) -> str:
    return "loss" if (block, field) == ("loss", "name") else field

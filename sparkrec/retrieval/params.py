"""The `model:` block of a conf as Params: every field of a config dataclass is one."""

import dataclasses
from typing import Any, ClassVar, Generic, TypeVar

from pyspark.ml.param import Param, Params

from sparkrec.retrieval.base import Retriever

C = TypeVar("C")


class ConfigParams(Params, Generic[C]):
    """Gives an Estimator or Model a param for each field of its `config_class`.

    A subclass names the frozen dataclass; defaults are its own, and its `__post_init__` checks
    the values whenever params are set::

        class ItemCFModel(ConfigParams[ItemCFConfig], RetrievalModel):
            config_class = ItemCFConfig
    """

    config_class: ClassVar[type[Any]]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        config_class = getattr(cls, "config_class", None)
        for field in dataclasses.fields(config_class) if config_class else ():
            if not hasattr(cls, field.name):
                setattr(cls, field.name, Param(Params._dummy(), field.name, f"model.{field.name}"))

    def __init__(self, config: C | None = None) -> None:
        super().__init__()
        defaults = self.config_class() if config is None else config
        for field in dataclasses.fields(self.config_class):
            self._setDefault(**{field.name: getattr(defaults, field.name)})

    @property
    def config(self) -> C:
        """The params as the config dataclass.

        Raises
        ------
        ValueError
            A value is out of range.
        """
        names = [field.name for field in dataclasses.fields(self.config_class)]
        return self.config_class(**{name: self.getOrDefault(name) for name in names})

    def set_params(self, **params: Any) -> Any:
        """Set several params by name; returns self."""
        super().set_params(**params)  # type: ignore[misc]
        _ = self.config
        return self


class ConfigRetriever(ConfigParams[C], Retriever):
    """An Estimator whose params are those of every retriever and the fields of its config.

    Parameters
    ----------
    config
        The `model:` block of a conf; the defaults of `config_class` without one.
    params
        By name, snake_case.
    """

    def __init__(self, config: C | None = None, **params: Any) -> None:
        super().__init__(config)
        self.set_params(**params)

"""Config dataclasses as Params."""

from dataclasses import dataclass

import pytest
from pyspark.ml.param import Param
from pyspark.sql import DataFrame

from sparkrec.retrieval.base import RetrievalModel
from sparkrec.retrieval.params import ConfigRetriever


@dataclass(frozen=True)
class Config:
    width: int = 3
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError("width must be at least 1")


class Model(ConfigRetriever[Config]):
    config_class = Config

    def _fit(self, dataset: DataFrame) -> RetrievalModel:
        raise NotImplementedError


@dataclass(frozen=True)
class WiderConfig(Config):
    depth: float = 0.5


class WiderModel(Model):
    config_class = WiderConfig


def test_every_field_is_a_param_with_its_default() -> None:
    made = WiderModel()
    assert {param.name for param in made.params} >= {"width", "names", "depth", "k", "user_col"}
    assert isinstance(WiderModel.depth, Param)
    assert made.config == WiderConfig()
    assert not Model().hasParam("depth")


def test_a_config_gives_defaults_and_params_win() -> None:
    made = WiderModel(WiderConfig(width=5, depth=2.0), depth=3.0, k=9)
    assert made.config == WiderConfig(width=5, depth=3.0)
    assert made.get("k") == 9
    assert not made.isSet("width")


def test_values_are_checked_whenever_they_are_set() -> None:
    with pytest.raises(ValueError, match="width must be at least 1"):
        Model(width=0)
    made = Model()
    with pytest.raises(ValueError, match="width must be at least 1"):
        made.set_params(width=-1)
    with pytest.raises(TypeError, match="unknown param 'depth'"):
        made.set_params(depth=1.0)


def test_two_estimators_do_not_share_values() -> None:
    one, other = Model(width=7), Model()
    assert (one.get("width"), other.get("width")) == (7, 3)
    assert one.copy().config == one.config

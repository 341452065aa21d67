"""Config dataclasses as Params."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from pyspark.ml.param import Param
from pyspark.sql import DataFrame

from sparkrec.retrieval.base import RetrievalModel, Retriever


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes
    ----------
    width
        How wide it is.
    """

    width: int = 3
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError("width must be at least 1")


class Model(Retriever):
    """`Config`'s fields as params."""

    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": Config}

    def _fit(self, dataset: DataFrame) -> RetrievalModel:
        raise NotImplementedError


@dataclass(frozen=True)
class WiderConfig(Config):
    depth: float = 0.5


class WiderModel(Model):
    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": WiderConfig}


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


@dataclass(frozen=True)
class Other:
    depth: float = 1.0
    k: int = 7


class TwoBlocks(Retriever):
    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": WiderConfig, "other": Other}

    def _fit(self, dataset: DataFrame) -> RetrievalModel:
        raise NotImplementedError


def test_a_field_that_another_block_has_keeps_a_param_of_its_own() -> None:
    made = TwoBlocks(depth=2.0, model_depth=0.25)
    assert made.block("other").depth == 2.0
    assert made.config == WiderConfig(depth=0.25)
    assert made.param_name("model", "depth") == "model_depth"


def test_a_param_that_every_retriever_has_is_shared_with_a_block() -> None:
    assert TwoBlocks().get("k") == 20
    assert TwoBlocks(k=3).block("other").k == 3
    assert TwoBlocks(Other(k=5)).get("k") == 5


def test_params_are_documented_by_the_docstring_of_the_config() -> None:
    assert Model().getParam("width").doc == "How wide it is."
    assert "width: How wide it is. (default: 3)" in Model().explainParams()

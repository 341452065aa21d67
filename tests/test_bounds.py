"""Every number of every config has bounds, and they are checked wherever a config is made."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from sparkrec.bounds import bounded_fields, bounds_of
from sparkrec.config.load import fields_of, from_json
from sparkrec.datasets.complete_journey import PrepareCompleteJourney
from sparkrec.datasets.movielens import PrepareMovieLens
from sparkrec.datasets.rsc15 import PrepareRSC15
from sparkrec.datasets.session_text import SessionText
from sparkrec.datasets.tables import PrepareOwn
from sparkrec.datasets.tafeng import PrepareTaFeng
from sparkrec.errors import ConfigError
from sparkrec.models.registry import BUILT_IN
from sparkrec.pipeline.show import Show
from sparkrec.pipeline.train import job_kind
from sparkrec.retrieval.offline import Recommend
from sparkrec.retrieval.search.settings import Retrieval
from sparkrec.transforms.features import HistoryFeatures
from sparkrec.transforms.match_dataset import MatchDataset, SplitBy
from sparkrec.transforms.sessionize import Sessionize

JOBS: list[Any] = [
    *map(job_kind, BUILT_IN),
    HistoryFeatures,
    MatchDataset,
    PrepareCompleteJourney,
    PrepareMovieLens,
    PrepareOwn,
    PrepareRSC15,
    PrepareTaFeng,
    Recommend,
    SessionText,
    Sessionize,
    Show,
]


def parts(hint: Any) -> Iterator[Any]:
    """A type and all types in it."""
    yield hint
    for inner in typing.get_args(hint):
        yield from parts(inner)


def configs(kind: Any) -> Iterator[type[Any]]:
    """The dataclasses of a config."""
    yield typing.get_origin(kind) or kind
    for _, hint in fields_of(kind).values():
        for part in parts(hint):
            if dataclasses.is_dataclass(typing.get_origin(part) or part):
                yield from configs(part)


CONFIGS = sorted({cls for job in JOBS for cls in configs(job)}, key=lambda cls: cls.__name__)
NUMBERS = [
    (cls, name)
    for cls in CONFIGS
    for name, (_, hint) in fields_of(cls).items()
    if {int, float} & set(parts(hint))
]


def test_all_configs_are_looked_at() -> None:
    names = {cls.__name__ for cls in CONFIGS}
    assert {"Training", "Loss", "ALSConfig", "SwingConfig", "Negatives", "Schema"} <= names
    assert len(NUMBERS) > 80


@pytest.mark.parametrize(
    ("cls", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value)
)
def test_every_number_has_bounds_that_are_checked(cls: type[Any], name: str) -> None:
    hint = bounded_fields(cls).get(name)
    assert hint is not None, f"{cls.__name__}.{name} is a number without bounds"
    bounds = bounds_of(hint)
    assert bounds is not None
    whole = int in parts(hint)
    wrong: list[Any] = [bounds.low - 1, bounds.high * 2 + 1, 10**4000, -(10**400), True, "1"]
    if not whole:
        wrong += [float("nan"), float("inf"), float("-inf")]
    wrong += [bounds.low] * bounds.above + [bounds.high] * bounds.below
    for value in wrong:
        given = value
        if typing.get_origin(hint) is tuple:
            given = (value,)
        elif typing.get_origin(hint) is dict:
            given = {"a": value}
        # Not dataclasses.replace, which needs the other fields.
        config = object.__new__(cls)
        for field in dataclasses.fields(cls):
            default = field.default
            if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            elif default is dataclasses.MISSING and field.name in bounded_fields(cls):
                default = 1
            object.__setattr__(config, field.name, default)
        object.__setattr__(config, name, given)
        with pytest.raises(ValueError, match=rf"^{name}\b.* must be ") as caught:
            config.__post_init__()
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("HNSW0", "index HNSW<links> must be at least 2, not 0"),
        ("HNSW1", "index HNSW<links> must be at least 2, not 1"),
        ("HNSW1025", "index HNSW<links> must be at most 1,024, not 1025"),
        ("HNSW99999999999", "index HNSW<links> must be at most 1,024, not 99999999999"),
        ("IVF0,Flat", "index IVF<lists> must be at least 1, not 0"),
        ("IVF99999999999,Flat", "index IVF<lists> must be at most 16,777,216, not 99999999999"),
        ("HNSW" + "9" * 5000, "index must be Flat, IVF<lists>,Flat or HNSW<links>, not HNSW99"),
        ("HNSW٣٢", "index must be Flat, IVF<lists>,Flat or HNSW<links>, not HNSW٣٢"),
        ("HNSW32\n", "index must be Flat, IVF<lists>,Flat or HNSW<links>, not HNSW32"),
    ],
)
def test_index(index: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(Retrieval, {"index": index}, "x.yaml")
    assert str(caught.value).startswith(f"x.yaml:1: {message}")
    assert len(str(caught.value)) < 400


def test_bounds_of_a_conf_name_the_line() -> None:
    with pytest.raises(ConfigError, match=r"^x.yaml:2: n must be at least 1, not 0$"):
        from_json(SplitBy, {"method": "last_n", "n": 0}, "x.yaml")
    with pytest.raises(ConfigError, match=r"must be at most 4,102,444,800, not 1700000000000"):
        from_json(SplitBy, {"method": "temporal", "test_from": 1_700_000_000_000}, "x.yaml")

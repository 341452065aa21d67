"""Confs to typed configs: strict keys and types, overrides, round trips."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkrec.baselines.item_to_item.swing import SwingConfig
from sparkrec.config.describe import describe_keys, effective_conf
from sparkrec.config.load import from_json, load_config, to_json
from sparkrec.errors import ConfigError
from sparkrec.models.dssm import DSSMConfig
from sparkrec.pipeline.neural import TwoTowerJob
from sparkrec.retrieval.offline import Recommend
from sparkrec.transforms.match_dataset import MatchDataset

N = TypeVar("N")


@dataclass(frozen=True)
class Net:
    width: int = 8


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    steps: int = 1
    label: str = ""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")
        if self.label:
            raise ValueError(f"label must be empty, not {self.label}")


@dataclass(frozen=True)
class Conf(Generic[N]):
    name: str
    net: N
    count: int = 1
    rate: float = 1.0
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = ()
    note: str | None = None
    inner: Inner = field(default_factory=Inner)
    extra: Inner | None = field(default_factory=Inner)
    table: dict[str, int] = field(default_factory=dict)
    spark: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def load(path: str, *overrides: str, **environ: str) -> Conf[Net]:
    return load_config(path, Conf[Net], overrides, environ)


def refused(path: str, *overrides: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, *overrides, **environ)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(path)


# ------------------------------------------------------------------------------- keys


def test_unknown_key_names_the_nearest(write: Any) -> None:
    assert refused(write("name: x\nnet: {}\ncuont: 3\n")) == (
        ":3: unknown key `cuont`; did you mean `count`?"
    )
    nested = refused(write("name: x\nnet: {}\ninner:\n  stps: 3\n"))
    assert nested == ":4: unknown key `inner.stps`; did you mean `steps`?"
    far = refused(write("name: x\nnet: {zzz: 3}\n"))
    assert far == ":2: unknown key `net.zzz`; known keys: width"


def test_duplicate_key_names_both_lines(write: Any) -> None:
    path = write("name: x\nnet: {}\ninner:\n  steps: 1\n  rate: 1\n  steps: 2\n")
    assert refused(path) == f":6: duplicate key `steps` (first at {path}:4)"
    path = write("name: x\ntable: {a: 1, a: 2}\nnet: {}\n")
    assert "duplicate key `a`" in refused(path)


def test_missing_key(write: Any) -> None:
    assert refused(write("# a comment\nnet: {}\n")) == ":2: missing key `name`"


NOT_DECIMAL = (
    "because of a leading 0 (octal), 0x, 0b or `:` (base 60); write a plain decimal number, or put "
    "quotes around a text"
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("count: 1.5", "count must be a whole number; not 1.5 (float)"),
        ("count: true", "count must be a whole number; not True (bool)"),
        ("count: '1'", "count must be a whole number; not '1' (str)"),
        ("count:", "count must be a whole number; not None (nothing)"),
        ("count: [1]", "count must be a single value, not a list"),
        ("count: {a: 1}", "count must be a single value, not a block of keys"),
        ("rate: fast", "rate must be a number; not 'fast' (str)"),
        ("rate: true", "rate must be a number; not True (bool)"),
        ("rate: .nan", "rate must be a number; not nan (float)"),
        ("rate: inf", "rate must be a number; not inf (float)"),
        ("flag: 1", "flag must be true or false; not 1 (int)"),
        ("flag: maybe", "flag must be true or false; not 'maybe' (str)"),
        ("note: 5", "note must be text; not 5 (int)"),
        ("note: [a]", "note must be a single value, not a list"),
        ("sizes: 5", "sizes must be a list, as [a, b]"),
        ("sizes: [1, x]", "sizes[1] must be a whole number; not 'x' (str)"),
        ("inner: 5", "inner must be a block of keys"),
        ("inner: [1]", "inner must be a block of keys"),
        ("extra: x", "extra must be a block of keys"),
        ("table: {a: b}", "table.a must be a whole number; not 'b' (str)"),
        ("kind: c", "kind must be one of a, b; not 'c'"),
        ("count: !!int x", "count: cannot read 'x'"),
        ("flag: !!bool x", "flag: cannot read 'x'"),
        ("count: 1:30", f"count: YAML reads '1:30' as 90, {NOT_DECIMAL}"),
        ("count: 010", f"count: YAML reads '010' as 8, {NOT_DECIMAL}"),
        ("count: 0x10", f"count: YAML reads '0x10' as 16, {NOT_DECIMAL}"),
        ("rate: 1:30.5", f"rate: YAML reads '1:30.5' as 90.5, {NOT_DECIMAL}"),
        ("note: 12:30", f"note: YAML reads '12:30' as 750, {NOT_DECIMAL}"),
        ("count: 10**26", "count must be a whole number; not '10**26' (str)"),
        (
            f"rate: 1{'0' * 400}",
            f"rate must be a number; not 1{'0' * 199}... (401 characters) (int)",
        ),
        (f"count: {'9' * 5000}", f"count: cannot read '{'9' * 199}... (5,002 characters)"),
        ("note: !!timestamp x", "note: cannot read 'x'"),
        ("note: !!python/name:os.system x", "note: cannot read 'x'"),
    ],
)
def test_wrong_type(write: Any, line: str, message: str) -> None:
    assert refused(write(f"name: x\nnet: {{}}\n{line}\n")) == f":3: {message}"


def test_value_out_of_range_names_its_line(write: Any) -> None:
    path = write("name: x\nnet: {}\ninner:\n  rate: 1\n  steps: 0\n")
    assert refused(path) == ":5: inner.steps must be at least 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [1\nnet: {}\n", ":2: not valid YAML"),
        ("name: x\n\tnet: {}\n", ":2: not valid YAML"),
        ("name: x\nnet: \x07\n", ":2: not valid YAML: the character '\\x07'"),
        ("a: 1\n---\nb: 2\n", ":2: not valid YAML"),
        ("", ":1: a conf is a mapping of keys to values"),
        ("# nothing\n", ":1: a conf is a mapping of keys to values"),
        ("- a\n- b\n", ":1: a conf is a mapping of keys to values"),
        ("just text", ":1: a conf is a mapping of keys to values"),
        ("? [a]\n: b\n", ":1: a key must be plain text"),
    ],
)
def test_not_a_conf(write: Any, text: str, message: str) -> None:
    assert refused(write(text)).startswith(message)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: x\nnet: {}\nnote: " + "[" * 20_000, ""),
        ("name: x\nnet: {}\nnote: " + "[" * 50 + "]" * 50 + "\n", ":3"),
        ("name: x\nnet: {}\ntable: " + "{a: " * 50 + "1" + "}" * 50 + "\n", ":3"),
        ("name: x\nnet: {}\ntable: &a {a: *a}\n", ":3"),
    ],
)
def test_nested_too_deep(write: Any, text: str, line: str) -> None:
    expected = ": blocks or lists stand in each other, more than 20 deep"
    assert refused(write(text)) == line + expected
    assert refused(write("name: x\nnet: {}\n"), f"note={'[' * 2000}").endswith(expected)


def test_aliases_of_aliases_take_no_time(write: Any) -> None:
    lines = ["name: x", "net: {}", "table:", "  a0: &a0 [x, x]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert refused(write("\n".join(lines))) == ":1: a conf has at most 100,000 keys and values"


@pytest.mark.parametrize(
    "line",
    [
        "count: {}",
        "kind: {}",
        "rate: {}",
        "{}: 1",
        "inner: {{{}: 1}}",
        "table: {{{}: x}}",
        "inner: {{label: {}}}",
        "note: !!int {}",
        "note: [{}",
        "{0}: 1\n{0}: 2",
    ],
)
def test_long_values_are_cut(write: Any, line: str) -> None:
    text = line.format("z" * 100_000)
    assert len(refused(write(f"name: x\nnet: {{}}\n{text}\n"))) < 700
    if "\n" not in line and ": " in line:
        key, _, value = text.partition(": ")
        assert len(refused(write("name: x\nnet: {}\n"), f"{key}={value}")) < 700


def test_unreadable_file(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot read conf .*none\.yaml: No such file"):
        load(missing)
    with pytest.raises(ConfigError, match=r"cannot read conf .*: Is a directory"):
        load(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(str(tmp_path / "latin.yaml"))


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.sampled_from("ab:-[]{}'\"#&*!|>%@`\n\t \x00é,?0."), max_size=40))
def test_any_text_loads_or_is_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        load(str(path))


# ------------------------------------------------------------------------------- types


def test_every_kind_of_value(write: Any) -> None:
    conf = load(
        write(
            "name: x\nnet: {width: 3}\ncount: 2\nrate: 1e-3\nflag: yes\nkind: b\nsizes: [1, 2]\n"
            "note: null\ninner: {rate: 2}\nextra: null\ntable: {a: 1}\n"
        )
    )
    assert conf == Conf("x", Net(3), 2, 0.001, True, "b", (1, 2), None, Inner(2.0), None, {"a": 1})
    assert type(conf.inner.rate) is float


def test_empty_block_has_the_defaults(write: Any) -> None:
    assert load(write("name: x\nnet:\ninner:\n")) == Conf("x", Net())


def test_describe_keys() -> None:
    lines = describe_keys(Conf[Net])
    assert "name: str (required)" in lines
    assert "net.width: int (default 8)" in lines
    assert "inner.steps: int (default 1)" in lines


def test_keys_are_described_by_their_docstrings() -> None:
    lines = describe_keys(TwoTowerJob[DSSMConfig])
    text = "\n".join(lines)
    assert "model.dropout: float, 0 to below 1 (default 0.0)\n    Dropout probability" in text
    # Two keys share a description, a base class has some, and a description has many lines.
    text = "\n".join(describe_keys(SwingConfig))
    for key in (
        "smoothing: float, 0 to 1,000,000,000 (default 0.0)",
        "exponent: float, 0 to 10 (default 0.5)",
    ):
        assert f"{key}\n    The weight of a user" in text
    assert "trigger: Literal['last', 'history'] (default 'history')\n    Items of the" in text
    for job in (TwoTowerJob[DSSMConfig], Recommend, MatchDataset):
        every = describe_keys(job)
        keys = [place for place, line in enumerate(every) if not line.startswith(" ")]
        described = [every[place + 1].startswith(" ") for place in keys if place + 1 < len(every)]
        assert sum(described) > len(described) / 2


# ------------------------------------------------------------------------------- --set


@pytest.fixture
def plain(write: Any) -> str:
    return str(write("name: x\nnet: {width: 1}\nextra: null\n"))


def test_overrides(plain: str) -> None:
    assert load(plain, "net.width=5").net.width == 5
    assert load(plain, "inner.steps=5").inner.steps == 5
    assert load(plain, "extra.steps=5").extra == Inner(steps=5)
    assert load(plain, "sizes=[3, 4]").sizes == (3, 4)
    assert load(plain, "inner={rate: 3}").inner.rate == 3.0
    assert load(plain, "note=a=b").note == "a=b"
    assert load(plain, "note=a", "note=").note is None
    assert load(plain, "note=a", "note=null").note is None
    assert load(plain, "rate=1e-4").rate == 1e-4
    assert load(plain, "count=2", "count=3").count == 3
    assert load(plain, "table.a=2").table == {"a": 2}


def test_overrides_of_spark_settings(write: Any) -> None:
    path = str(write("name: x\nspark: {sql.a: 1, spark.sql.b: 2, master: yarn}\n"))
    assert load(path, "spark.sql.a=3").spark == {"sql.a": 3, "spark.sql.b": 2, "master": "yarn"}
    assert load(path, "spark.sql.b=3").spark == {"sql.a": 1, "master": "yarn", "sql.b": 3}
    assert load(path, "spark.spark.sql.a=3").spark["sql.a"] == 3
    assert load(path, "spark={x.y: 1}", "spark.x.z=2").spark == {"x.y": 1, "x.z": 2}
    path = str(write("name: x\nspark:\n"))
    assert load(path, "spark.executor.memory=2g").spark == {"executor.memory": "2g"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("spark..b=3", "--set spark..b=3: give it as --set key.sub=value"),
        ("count", "--set count: give it as --set key.sub=value"),
        (
            "name=${OUT}/x",
            "--set name=${OUT}/x: --set does not know variables; let the shell replace `${OUT}`, "
            "with double quotes around the option",
        ),
        ("=3", "--set =3: give it as --set key.sub=value"),
        ("a..b=3", "--set a..b=3: give it as --set key.sub=value"),
        ("count=x", "--set count=x: count must be a whole number; not 'x' (str)"),
        ("cuont=1", "--set cuont=1: unknown key `cuont`; did you mean `count`?"),
        ("net.widht=1", "--set net.widht=1: unknown key `net.widht`; did you mean `width`?"),
        ("name.x=1", "--set name.x=1: name has no keys under it"),
        ("inner.steps=0", "--set inner.steps=0: inner.steps must be at least 1"),
    ],
)
def test_wrong_overrides(plain: str, override: str, message: str) -> None:
    assert refused(plain, override) == message


def test_override_that_is_not_yaml(plain: str) -> None:
    assert refused(plain, "sizes=[1").startswith("--set sizes=[1") and "not valid YAML" in refused(
        plain, "sizes=[1"
    )


# ------------------------------------------------------------------------------- round trips


def test_json_round_trip() -> None:
    conf = Path(__file__).parents[2] / "conf" / "dssm_bce_neg10_ml_1m.yaml"
    kind = TwoTowerJob[DSSMConfig]
    changes = ["training.learning_rate=1e-7", "schema.user_buckets={a#b: 7}", "model.class=a:B"]
    config = load_config(str(conf), kind, changes, {"MY_S3_BUCKET": "/data"})
    assert config.made_by == "dssm dssm_bce_neg10_ml_1m"
    written = json.loads(json.dumps(to_json(config)))
    config = dataclasses.replace(config, conf="")  # no key; the loader sets it
    assert from_json(kind, written, "model.json") == config
    assert config.model_class == "a:B" == written["model"]["class"]
    assert from_json(kind, yaml.safe_load(effective_conf(config)), "printed") == config
    model = {key: value for key, value in written["model"].items() if key != "class"}
    assert from_json(DSSMConfig, model, "model.json") == config.model
    with pytest.raises(ConfigError, match=r"model\.json:\d+: unknown key `hiden`; did you mean"):
        from_json(DSSMConfig, {"hiden": [1]}, "model.json")

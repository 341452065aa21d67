"""Variables in confs, as envsubst expands them."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkrec.config.template import expand, read_template
from sparkrec.errors import ConfigError
from sparkrec.io import storage

CONFS = sorted((Path(__file__).parents[2] / "conf").glob("*.yaml"))
ENVIRON = {
    "MY_S3_BUCKET": "s3://bucket/some prefix",
    "ML_1M": "/data/ml-1m",
    "RSC15": "/data/rsc15",
    "TAFENG": "/data/tafeng",
}

envsubst = shutil.which("envsubst")
needs_envsubst = pytest.mark.skipif(envsubst is None, reason="envsubst is not installed")


def by_envsubst(text: str, environ: dict[str, str]) -> str:
    assert envsubst is not None
    done = subprocess.run(
        [envsubst], input=text.encode(), env=environ, capture_output=True, check=True
    )
    return done.stdout.decode()


def refused(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        expand(text, "x.yaml", environ)
    return str(caught.value)


pieces = st.one_of(
    st.sampled_from(
        ["$A", "${A}", "${_b9}", "$_b9", "$$A", "$", "$ ", "$1", "{A}", "${", "\n", "'"]
    ),
    st.text(st.characters(exclude_characters="#$\x00", exclude_categories=("Cs",)), max_size=8),
)
values = st.text(
    st.characters(exclude_characters="\x00\n\r\x85\u2028\u2029", exclude_categories=("Cs",)),
    min_size=1,
    max_size=12,
)


@needs_envsubst
@settings(max_examples=60, deadline=None)
@given(template=st.lists(pieces, max_size=12).map("".join), a=values, b=values)
def test_expand_agrees_with_envsubst(template: str, a: str, b: str) -> None:
    environ = {"A": a, "_b9": b}
    try:
        expanded = expand(template, "x.yaml", environ)
    except ConfigError as error:
        # `$A` beside a letter is another name, and `${` may find a brace further on.
        assert "is not set" in str(error) or "is not a plain" in str(error)
    else:
        assert expanded == by_envsubst(template, environ)


@needs_envsubst
@pytest.mark.parametrize("conf", CONFS, ids=lambda path: path.stem)
def test_confs_agree_with_envsubst(conf: Path) -> None:
    text = conf.read_text(encoding="utf-8")
    by_hand = by_envsubst(text, ENVIRON)
    assert yaml.safe_load(expand(text, conf.name, ENVIRON)) == yaml.safe_load(by_hand)
    assert expand(by_hand, conf.name, {}) == by_hand


def test_unset_variable_names_its_line() -> None:
    assert refused("name: x\nnote: ${NO_SUCH}/a\n") == (
        "x.yaml:2: environment variable NO_SUCH is not set (in `note: ${NO_SUCH}/a`); "
        "export NO_SUCH=... first"
    )
    assert expand("note: ${NO_SUCH}/a", "x.yaml", {"NO_SUCH": "/r"}) == "note: /r/a"


def test_empty_variable_is_an_error_like_an_unset_one() -> None:
    assert refused("output_path: ${OUT}/runs", OUT="") == (
        "x.yaml:1: environment variable OUT is empty (in `output_path: ${OUT}/runs`); "
        "export OUT=... first"
    )


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028", "\r\n"])
def test_variable_with_a_line_break(end: str) -> None:
    assert refused("name: x\nnote: ${A}\n", A=f"x{end}overwrite: true") == (
        "x.yaml:2: environment variable A has a line break in it; a variable holds one value"
    )


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("note: ${A}/runs", "/data #1"),
        ("note: ${A}", " x"),
        ("note: ${A}", "'x'"),
        ("note: ${A}", "[x, y]"),
        ("note: ${A}", "{overwrite: true}"),
        ("note: ${A}", "!!int 5"),
        ("{note: x, other: $A}", "x, overwrite: true"),
        ("[note, $A]", "x, y"),
        ("note: '${A}'", "x''y"),
        ('note: "${A}"', "C:\\new"),
        ("$A: x", "note: y"),
    ],
)
def test_variable_is_one_value(tmp_path: Path, line: str, value: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"name: x\nblock:\n  {line}\n")
    with pytest.raises(
        ConfigError, match=r"environment variable A is not read|not valid YAML"
    ) as e:
        read_template(str(path), {"A": value})
    assert str(e.value).startswith(f"{path}:3: ")


@pytest.mark.parametrize("value", ["/data dir/x", "it's", "a:b#c", "s3://b/é", "x  y", "5"])
def test_variable_with_odd_characters_is_its_text(tmp_path: Path, value: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("note: ${A}\n", encoding="utf-8")
    ((_, node),) = read_template(str(path), {"A": value}).value
    assert node.value == value


@pytest.mark.parametrize("fancy", ["${VAR:-x}", "${VAR-x}", "${#VAR}", "${1}", "${}", "${A${B}}"])
def test_only_plain_variables(fancy: str) -> None:
    message = refused(f"name: x\nnote: {fancy}\n", VAR="v", A="a", B="b")
    assert message.startswith("x.yaml:2: `${") and "is not a plain ${VAR}" in message


def test_variables_in_comments_are_ignored() -> None:
    text = (
        "# ${UNSET} and ${UNSET:-x}\n"
        "name: it's ${A}   # the user's ${UNSET}\n"
        "note: 'a # ${A}'  # ${UNSET}\n"
    )
    expanded = expand(text, "x.yaml", {"A": "v"})
    assert yaml.safe_load(expanded) == {"name": "it's v", "note": "a # v"}


def test_values_are_not_expanded_again() -> None:
    assert expand("name: ${A}", "x.yaml", {"A": "${B}"}) == "name: ${B}"


def test_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARKREC_TEST_NAME", "from the environment")
    path = tmp_path / "x.yaml"
    path.write_text("name: $SPARKREC_TEST_NAME\n")
    (pair,) = read_template(str(path)).value
    assert [node.value for node in pair] == ["name", "from the environment"]


@pytest.mark.parametrize("prefix", ["", "file:", "file://", "file://localhost", "FILE://"])
def test_a_conf_with_a_scheme(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "a.yaml").write_text("job: prepare\n")
    root = read_template(f"{prefix}{tmp_path}/a.yaml", {})
    assert [value.value for _, value in root.value] == ["prepare"]
    with pytest.raises(ConfigError, match=r"cannot read conf .*/b\.yaml: .*No such file"):
        read_template(f"{prefix}{tmp_path}/b.yaml", {})


@pytest.mark.parametrize("path", ["hdfs:/conf/a.yaml", "hdfs://host/conf/a.yaml"])
def test_a_conf_with_a_scheme_without_storage(path: str) -> None:
    with pytest.raises(ConfigError, match=r"sparkrec has no storage `hdfs:`"):
        read_template(path, {})


@pytest.mark.slow
def test_a_conf_on_s3(s3: str) -> None:
    storage.write_bytes(f"{s3}/conf/a.yaml", b"job: prepare\nroot: ${ROOT}\n")
    root = read_template(f"{s3}/conf/a.yaml", {"ROOT": "/data"})
    assert [value.value for _, value in root.value] == ["prepare", "/data"]
    with pytest.raises(ConfigError, match=rf"cannot read conf {s3}/conf/b\.yaml: "):
        read_template(f"{s3}/conf/b.yaml", {})

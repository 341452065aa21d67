"""Parses a conf as YAML nodes with line numbers: variables, comments, `--set`, keys.

A template is a YAML file with variables ``${VAR}``. Reading the template gives the same nodes as
reading the output of ``envsubst``, but a variable is always a part of one value: one whose text
would add keys, end a value early or be read as quoted is refused. Every mistake is a `ConfigError`
with file and line.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from sparkrec.config.nodes import NULL, children, compose, or_empty_block, where
from sparkrec.config.secrets import SECRET
from sparkrec.errors import ConfigError, StorageError, cut

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_LINE_BREAK = re.compile("[\n\r\x85\u2028\u2029]")
_FANCY_VARIABLE = re.compile(r"\$\{[^}]*\}")
# A quote after one of these (or at the start) begins a quoted text; any other is an apostrophe.
_BEFORE_QUOTED = ("", ":", ",", "[", "{", "-", "?")
# Stands for a variable while the conf is read without the values of its variables.
_MARK = re.compile("\ue000(\\d+)\ue001")
_TEXT = "tag:yaml.org,2002:str"
# A path with a scheme, which may have one slash: `file:/conf/x.yaml`.
_WITH_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
# The block whose keys have dots in them, with or without the prefix that they have in Spark.
_SPARK = "spark"


def read_template(path: str, environ: Mapping[str, str] | None = None) -> yaml.MappingNode:
    """Read a conf, on a local disk or on S3, and replace its variables.

    Parameters
    ----------
    environ
        The variables' values, by default `os.environ`.
    """
    try:
        text = _content(path).decode()
    except (OSError, StorageError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read conf {path}: {reason}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"conf {path} is not UTF-8 text") from None
    environ = os.environ if environ is None else environ
    names: list[str] = []

    def mark(name: str) -> str:
        names.append(name)
        return f"\ue000{len(names) - 1}\ue001"

    marked = compose(_replace(text, path, environ, mark), path)
    root = compose(expand(text, path, environ), path)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:1: a conf is a mapping of keys to values")
    if names and marked is not None:
        _check_variables(marked, root, [(name, environ[name]) for name in names])
    return root


def _content(path: str) -> bytes:
    if _WITH_SCHEME.match(path) is None:
        return Path(path).read_bytes()
    from sparkrec.io import storage  # it loads pyarrow

    return storage.read_bytes(path)


def _check_variables(
    marked: yaml.Node, expanded: yaml.Node, variables: Sequence[tuple[str, str]]
) -> None:
    """Check that each variable is a part of one value or key, with exactly its text.

    Parameters
    ----------
    marked
        The conf with a mark in the place of each variable.
    expanded
        The conf with the values of the variables.
    variables
        Name and value of each mark's variable.
    """
    same = type(marked) is type(expanded)
    if same and isinstance(marked, yaml.ScalarNode):
        same = expanded.value == _MARK.sub(lambda mark: variables[int(mark[1])][1], marked.value)
    inner, others = children(marked), children(expanded)
    if not same or len(inner) != len(others):
        names = [variables[int(mark)][0] for mark in _MARK.findall(yaml.serialize(marked))]
        raise ConfigError(
            f"{where(expanded)}: the value of environment variable {(names or variables[0])[0]} is "
            "not read as its text, because of a quote, bracket, colon, comma, backslash, `#` or "
            "outer blank in it; change the value, or put single quotes around the variable"
        )
    for before, after in zip(inner, others, strict=True):
        _check_variables(before, after, variables)


def expand(text: str, source: str, environ: Mapping[str, str]) -> str:
    """Replace `${VAR}` and `$VAR` as envsubst does, but refuse variables that are unset or empty.

    Comments are not changed, so variables in comments do not have to be set.
    """
    return _replace(text, source, environ, lambda name: environ[name])


def _replace(
    text: str, source: str, environ: Mapping[str, str], replacement: Callable[[str], str]
) -> str:
    def expand_line(number: int, line: str) -> str:
        body, comment = _split_comment(line)

        def value(match: re.Match[str]) -> str:
            name = match.group(1) or match.group(2)
            if not environ.get(name):
                state = "is empty" if name in environ else "is not set"
                raise ConfigError(
                    f"{source}:{number}: environment variable {name} {state} (in "
                    f"`{cut(body.strip())}`); export {name}=... first"
                )
            if _LINE_BREAK.search(environ[name]):
                raise ConfigError(
                    f"{source}:{number}: environment variable {name} has a line break in it; a "
                    "variable holds one value"
                )
            return replacement(name)

        expanded = _VARIABLE.sub(value, body)
        fancy = _FANCY_VARIABLE.search(_VARIABLE.sub(" ", body))
        if fancy:
            raise ConfigError(
                f"{source}:{number}: `{cut(fancy.group())}` is not a plain ${{VAR}}, which is all "
                "that envsubst and this loader know"
            )
        return expanded + comment

    return "\n".join(expand_line(i, line) for i, line in enumerate(text.split("\n"), start=1))


def _split_comment(line: str) -> tuple[str, str]:
    """Split a line of YAML into the text before its comment and the comment."""
    quote = ""
    for i, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and line[:i].rstrip()[-1:] in _BEFORE_QUOTED:
            quote = char
        elif char == "#" and (i == 0 or line[i - 1].isspace()):
            return line[:i], line[i:]
    return line, ""


def apply_override(root: yaml.MappingNode, override: str) -> None:
    """Apply `key.sub=value` to the nodes of a conf; missing blocks are added.

    Below `spark`, everything is one key: `spark.executor.memory=2g` sets `executor.memory`.
    """
    name, equals, value = override.partition("=")
    keys = name.split(".")
    # The source stands in messages, and a message must not show a secret.
    source = f"--set {name}=..." if SECRET.search(override) else cut(f"--set {override}")
    if not equals or not all(keys):
        raise ConfigError(f"{source}: give it as --set key.sub=value")
    variable = _FANCY_VARIABLE.search(value)
    if variable:
        raise ConfigError(
            f"{source}: --set does not know variables; let the shell replace "
            f"`{cut(variable.group())}`, with double quotes around the option"
        )
    if keys[0] == _SPARK and len(keys) > 1:
        keys = [_SPARK, name.removeprefix(f"{_SPARK}.").removeprefix(f"{_SPARK}.")]
    mark = yaml.Mark(source, 0, 0, 0, None, None)
    null = yaml.ScalarNode(NULL, "", mark, mark)
    block = root
    for depth, key in enumerate(keys[:-1], start=1):
        at = _position(block, key)
        if at == len(block.value):
            block.value.append((yaml.ScalarNode(_TEXT, key, mark, mark), null))
        key_node, child = block.value[at]
        child = or_empty_block(child)
        if not isinstance(child, yaml.MappingNode):
            raise ConfigError(f"{source}: {'.'.join(keys[:depth])} has no keys under it")
        block.value[at] = (key_node, child)
        block = child
    if keys[0] == _SPARK and len(keys) > 1:
        # The conf may have the key with its prefix.
        block.value = [p for p in block.value if p[0].value != f"{_SPARK}.{keys[-1]}"]
    at = _position(block, keys[-1])
    pair = (yaml.ScalarNode(_TEXT, keys[-1], mark, mark), compose(value, source) or null)
    block.value[at : at + 1] = [pair]


def _position(block: yaml.MappingNode, key: str) -> int:
    """The index of a key in a block, or the number of keys if it is not there."""
    names = [key_node.value for key_node, _ in block.value]
    return names.index(key) if key in names else len(names)

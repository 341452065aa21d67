"""Parses a conf as YAML nodes with line numbers: variables, comments, `--set`, keys.

A template is a YAML file with variables ``${VAR}``. Reading the template gives the same nodes as
reading the output of ``envsubst``. Every mistake is a `ConfigError` with file and line.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sparkrec.errors import ConfigError

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_FANCY_VARIABLE = re.compile(r"\$\{[^}]*\}")
# A quote after one of these (or at the start) begins a quoted text; any other is an apostrophe.
_BEFORE_QUOTED = ("", ":", ",", "[", "{", "-", "?")
_TEXT, _MAP, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:null"


def read_template(path: str, environ: Mapping[str, str] | None = None) -> yaml.MappingNode:
    """Read a conf and replace its variables from `environ` (by default `os.environ`)."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read conf {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"conf {path} is not UTF-8 text") from None
    root = compose(expand(text, path, os.environ if environ is None else environ), path)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:1: a conf is a mapping of keys to values")
    return root


def expand(text: str, source: str, environ: Mapping[str, str]) -> str:
    """Replace `${VAR}` and `$VAR` as envsubst does, but refuse unset variables.

    Comments are not changed, so variables in comments do not have to be set.
    """

    def expand_line(number: int, line: str) -> str:
        body, comment = _split_comment(line)

        def value(match: re.Match[str]) -> str:
            name = match.group(1) or match.group(2)
            if name not in environ:
                raise ConfigError(
                    f"{source}:{number}: environment variable {name} is not set (in "
                    f"`{body.strip()}`); export {name}=... first"
                )
            return environ[name]

        expanded = _VARIABLE.sub(value, body)
        fancy = _FANCY_VARIABLE.search(_VARIABLE.sub(" ", body))
        if fancy:
            raise ConfigError(
                f"{source}:{number}: `{fancy.group()}` is not a plain ${{VAR}}, which is all that "
                "envsubst and this loader know"
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


def compose(text: str, source: str) -> yaml.Node | None:
    """Parse a YAML text as a node, or None if it is empty; `source` names it in errors."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{source}:{line}: not valid YAML: the character {chr(error.character)!r}"
        ) from None
    loader.name = source
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{source}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()


def where(node: yaml.Node) -> str:
    """File and line of a node, or the `--set` option that it is from."""
    name = str(node.start_mark.name)
    return name if name.startswith("--set") else f"{name}:{node.start_mark.line + 1}"


def apply_override(root: yaml.MappingNode, override: str) -> None:
    """Apply `key.sub=value` to the nodes of a conf; missing blocks are added."""
    name, equals, value = override.partition("=")
    keys = name.split(".")
    source = f"--set {override}"
    if not equals or not all(keys):
        raise ConfigError(f"{source}: give it as --set key.sub=value")
    mark = yaml.Mark(source, 0, 0, 0, None, None)
    null = yaml.ScalarNode(_NULL, "", mark, mark)
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
    at = _position(block, keys[-1])
    pair = (yaml.ScalarNode(_TEXT, keys[-1], mark, mark), compose(value, source) or null)
    block.value[at : at + 1] = [pair]


def _position(block: yaml.MappingNode, key: str) -> int:
    """The index of a key in a block, or the number of keys if it is not there."""
    names = [key_node.value for key_node, _ in block.value]
    return names.index(key) if key in names else len(names)


def is_null(node: yaml.Node) -> bool:
    """Whether the value is null, or left out."""
    return bool(node.tag == _NULL)


def or_empty_block(node: yaml.Node) -> yaml.Node:
    """Return the node, or an empty block if it is null."""
    return yaml.MappingNode(_MAP, [], node.start_mark, node.end_mark) if is_null(node) else node


def plain_value(node: yaml.Node, key: str) -> Any:
    """A single value as YAML reads it; `key` names it in errors."""
    if not isinstance(node, yaml.ScalarNode):
        shape = "a list" if isinstance(node, yaml.SequenceNode) else "a block of keys"
        raise ConfigError(f"{where(node)}: {key} must be a single value, not {shape}")
    constructor = yaml.SafeLoader("")
    try:
        return constructor.construct_object(node)
    except (ValueError, LookupError, AttributeError, yaml.YAMLError):
        # PyYAML's constructors raise these if the text does not fit an explicit tag.
        raise ConfigError(f"{where(node)}: {key}: cannot read {node.value!r}") from None
    finally:
        constructor.dispose()


def unique_pairs(node: yaml.Node, key: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """The keys of a block, each with its node and the node of its value; refuses duplicates."""
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{where(node)}: {key or 'the conf'} must be a block of keys")
    pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key_node, child in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{where(key_node)}: a key must be plain text")
        if key_node.value in pairs:
            first = where(pairs[key_node.value][0])
            raise ConfigError(
                f"{where(key_node)}: duplicate key `{key_node.value}` (first at {first})"
            )
        pairs[key_node.value] = (key_node, child)
    return pairs

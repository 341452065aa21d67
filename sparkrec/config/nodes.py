"""The nodes of a conf: a YAML text as nodes that know their line, and the values of nodes."""

import re
from typing import Any

import yaml

from sparkrec.errors import ConfigError, cut, shown

# No conf is deeper or has more keys and values.
_DEEPEST, _MOST = 20, 100_000
_TOO_DEEP = f"blocks or lists stand in each other, more than {_DEEPEST} deep"
# YAML 1.1 also reads 010 as octal, 0x10 as hexadecimal and 1:30 as 90 (base 60).
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.\w+")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MAP, NULL = "tag:yaml.org,2002:map", "tag:yaml.org,2002:null"


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
        node = loader.get_single_node()
        if node is not None:
            _check_size(node)
        return node
    except RecursionError:
        raise ConfigError(f"{source}: {_TOO_DEEP}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{source}:{line}: not valid YAML: {cut(str(error.problem))}") from None
    except yaml.YAMLError as error:
        reason = cut(" ".join(str(error).split()))
        raise ConfigError(f"{source}: not valid YAML: {reason}") from None
    finally:
        loader.dispose()


def _check_size(root: yaml.Node) -> None:
    """Refuse what is nested too deep or too large for a conf; aliases (`*name`) count in full.

    So an alias inside of what it names, or aliases of aliases, do not run for ever.
    """
    waiting, found = [(root, 1)], 0
    while waiting:
        node, depth = waiting.pop()
        found += 1
        if depth > _DEEPEST:
            raise ConfigError(f"{where(node)}: {_TOO_DEEP}")
        if found > _MOST:
            raise ConfigError(f"{where(root)}: a conf has at most {_MOST:,} keys and values")
        waiting += [(child, depth + 1) for child in children(node)]


def children(node: yaml.Node) -> list[yaml.Node]:
    """The nodes in a node: the items of a list, the keys and values of a block."""
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def where(node: yaml.Node) -> str:
    """File and line of a node, or the `--set` option that it is from."""
    name = str(node.start_mark.name)
    return name if name.startswith("--set") else f"{name}:{node.start_mark.line + 1}"


def is_null(node: yaml.Node) -> bool:
    """Whether the value is null, or left out."""
    return bool(node.tag == NULL)


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
        value = constructor.construct_object(node)
    except (ValueError, LookupError, AttributeError, yaml.YAMLError):
        # PyYAML's constructors raise these if the text does not fit an explicit tag.
        raise ConfigError(f"{where(node)}: {key}: cannot read {shown(node.value)}") from None
    finally:
        constructor.dispose()
    if node.tag in _NUMBERS and not _DECIMAL.fullmatch(node.value):
        raise ConfigError(
            f"{where(node)}: {key}: YAML reads {shown(node.value)} as {shown(value)}, because of a "
            "leading 0 (octal), 0x, 0b or `:` (base 60); write a plain decimal number, or put "
            "quotes around a text"
        )
    return value


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
                f"{where(key_node)}: duplicate key `{cut(key_node.value)}` (first at {first})"
            )
        pairs[key_node.value] = (key_node, child)
    return pairs

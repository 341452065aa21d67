"""YAML templates to one frozen, typed config per job.

A conf is a YAML file with plain ``${VAR}`` in it. `load_config` expands the environment (so the
raw template and the output of ``envsubst`` give the same config), parses strictly, applies
``--set`` overrides, and builds the dataclass of the job. Every mistake is a `ConfigError` that
names file and line.
"""

import contextlib
import dataclasses
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sparkrec.errors import ConfigError

C = TypeVar("C")

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_FANCY_VARIABLE = re.compile(r"\$\{[^}]*\}")
# What a quoted text may follow (nothing, too); any other quote is an apostrophe.
_BEFORE_QUOTED = ("", ":", ",", "[", "{", "-", "?")


def load_config(
    path: str,
    kind: type[C],
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> C:
    """Load a conf as the frozen dataclass `kind`.

    Parameters
    ----------
    path
        YAML file on the local disk.
    kind
        A dataclass, or a generic one with its argument (`NeuralJob[DSSMConfig]`). Fields without
        a default are required. `__post_init__` may raise ValueError("<field> must ...").
    overrides
        `key.sub=value` each, the value in YAML; as `--set` gives them.
    environ
        Where variables come from; `os.environ` by default.

    Raises
    ------
    ConfigError
        Missing file, unset variable, malformed YAML, duplicate or unknown key, wrong type,
        missing key, value out of range.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read conf {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"conf {path} is not UTF-8 text") from None
    root = _compose(expand(text, path, os.environ if environ is None else environ), path)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:1: a conf is a mapping of keys to values")
    for override in overrides:
        _apply_override(root, override)
    return typing.cast(C, _build(kind, root, ""))


def expand(text: str, source: str, environ: Mapping[str, str]) -> str:
    """Replace `${VAR}` and `$VAR` as envsubst does, but refuse unset variables.

    Comments are left as they are, so a variable named there need not be set.
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
    """Cut a line of YAML at its comment, minding quotes."""
    quote = ""
    for i, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and line[:i].rstrip()[-1:] in _BEFORE_QUOTED:
            quote = char
        elif char == "#" and (i == 0 or line[i - 1].isspace()):
            return line[:i], line[i:]
    return line, ""


def _compose(text: str, source: str) -> yaml.Node | None:
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


def _where(node: yaml.Node) -> str:
    name = str(node.start_mark.name)
    return name if name.startswith("--set") else f"{name}:{node.start_mark.line + 1}"


def _apply_override(root: yaml.MappingNode, override: str) -> None:
    name, equals, value = override.partition("=")
    keys = name.split(".")
    source = f"--set {override}"
    if not equals or not all(keys):
        raise ConfigError(f"{source}: give it as --set key.sub=value")
    new_value = _compose(value, source)
    if new_value is None:
        new_value = _scalar("tag:yaml.org,2002:null", "", source)
    node = root
    for depth, key in enumerate(keys):
        found = next((i for i, (k, _) in enumerate(node.value) if k.value == key), None)
        if depth == len(keys) - 1:
            pair = (_scalar("tag:yaml.org,2002:str", key, source), new_value)
            if found is None:
                node.value.append(pair)
            else:
                node.value[found] = pair
            return
        if found is None:
            key_node = _scalar("tag:yaml.org,2002:str", key, source)
            child = yaml.MappingNode(
                "tag:yaml.org,2002:map", [], key_node.start_mark, key_node.end_mark
            )
            node.value.append((key_node, child))
            node = child
        else:
            child = node.value[found][1]
            if child.tag == "tag:yaml.org,2002:null":
                child = yaml.MappingNode(
                    "tag:yaml.org,2002:map", [], child.start_mark, child.end_mark
                )
                node.value[found] = (node.value[found][0], child)
            if not isinstance(child, yaml.MappingNode):
                raise ConfigError(f"{source}: {'.'.join(keys[: depth + 1])} has no keys under it")
            node = child


def _scalar(tag: str, value: str, source: str) -> yaml.ScalarNode:
    mark = yaml.Mark(source, 0, 0, 0, None, None)
    return yaml.ScalarNode(tag, value, mark, mark)


# ---------------------------------------------------------------------------- typed building


def _build(kind: Any, node: yaml.Node, key: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_union(arguments, node, key)
    if dataclasses.is_dataclass(origin or kind):
        return _build_dataclass(kind, node, key)
    if origin is typing.Literal:
        value = _plain(node, key)
        if value not in arguments:
            choices = ", ".join(str(a) for a in arguments)
            raise ConfigError(f"{_where(node)}: {key} must be one of {choices}; not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(node, yaml.SequenceNode):
            raise ConfigError(f"{_where(node)}: {key} must be a list, as [a, b]")
        return tuple(_build(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(node.value))
    if origin in (dict, Mapping) or kind is dict:
        value_kind = arguments[1] if arguments else Any
        pairs = _unique_pairs(node, key)
        return {k: _build(value_kind, child, f"{key}.{k}") for k, (_, child) in pairs.items()}
    return _build_scalar(kind, node, key)


def _build_union(choices: tuple[Any, ...], node: yaml.Node, key: str) -> Any:
    if type(None) in choices and node.tag == "tag:yaml.org,2002:null":
        return None
    rest = [choice for choice in choices if choice is not type(None)]
    errors = []
    for choice in rest:
        try:
            return _build(choice, node, key)
        except ConfigError as error:
            errors.append(error)
    raise errors[-1]


def _build_scalar(kind: Any, node: yaml.Node, key: str) -> Any:
    value = _plain(node, key)
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 as text.
        with contextlib.suppress(ValueError):
            value = float(value)
    if type(value) is kind and (kind is not float or math.isfinite(value)):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise ConfigError(
        f"{_where(node)}: {key} must be {names.get(kind, kind)}; not {value!r} "
        f"({'nothing' if value is None else type(value).__name__})"
    )


def _plain(node: yaml.Node, key: str) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        shape = "a list" if isinstance(node, yaml.SequenceNode) else "a block of keys"
        raise ConfigError(f"{_where(node)}: {key} must be a single value, not {shape}")
    constructor = yaml.SafeLoader("")
    try:
        return constructor.construct_object(node)
    except (ValueError, LookupError, AttributeError, yaml.YAMLError):
        # PyYAML's own constructors fail so on an explicit tag whose text does not suit it.
        raise ConfigError(f"{_where(node)}: {key}: cannot read {node.value!r}") from None
    finally:
        constructor.dispose()


def _unique_pairs(node: yaml.Node, key: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{_where(node)}: {key or 'the conf'} must be a block of keys")
    pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key_node, child in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{_where(key_node)}: a key must be plain text")
        if key_node.value in pairs:
            first = _where(pairs[key_node.value][0])
            raise ConfigError(
                f"{_where(key_node)}: duplicate key `{key_node.value}` (first at {first})"
            )
        pairs[key_node.value] = (key_node, child)
    return pairs


def _build_dataclass(kind: Any, node: yaml.Node, key: str) -> Any:
    cls = typing.get_origin(kind) or kind
    hints = typing.get_type_hints(cls)
    substitute = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(kind), strict=False))
    fields = {field.name: field for field in dataclasses.fields(cls)}
    pairs = _unique_pairs(node, key)
    prefix = f"{key}." if key else ""
    for name, (key_node, _) in pairs.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            known = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(fields)}"
            raise ConfigError(f"{_where(key_node)}: unknown key `{prefix}{name}`; {known}")
    values = {}
    for name, field in fields.items():
        hint = substitute.get(hints[name], hints[name])
        if name in pairs:
            child = pairs[name][1]
            empty_block = child.tag == "tag:yaml.org,2002:null" and dataclasses.is_dataclass(hint)
            if empty_block:
                child = yaml.MappingNode(
                    "tag:yaml.org,2002:map", [], child.start_mark, child.end_mark
                )
            values[name] = _build(hint, child, f"{prefix}{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{_where(node)}: missing key `{prefix}{name}`")
    try:
        return cls(**values)
    except ValueError as error:
        named = str(error).split(" ", 1)[0]
        at = pairs[named][1] if named in pairs else node
        raise ConfigError(f"{_where(at)}: {prefix}{error}") from None


def describe_keys(kind: Any, prefix: str = "") -> list[str]:
    """One line a key of a config dataclass: dotted name, type and default. For `-h`."""
    cls = typing.get_origin(kind) or kind
    hints = typing.get_type_hints(cls)
    substitute = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(kind), strict=False))
    lines = []
    for field in dataclasses.fields(cls):
        hint = substitute.get(hints[field.name], hints[field.name])
        # An optional block (`Block | None`) has keys to list as well.
        blocks = [kind for kind in typing.get_args(hint) if dataclasses.is_dataclass(kind)]
        block = hint if dataclasses.is_dataclass(typing.get_origin(hint) or hint) else None
        if block is None and len(blocks) == 1 and typing.get_origin(hint) is not tuple:
            block = blocks[0]
        if block is not None:
            lines += describe_keys(block, f"{prefix}{field.name}.")
            continue
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        default = "required" if required else f"default {_default(field)!r}"
        kind_name = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        lines.append(f"{prefix}{field.name}: {kind_name} ({default})")
    return lines


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    assert field.default_factory is not dataclasses.MISSING
    return field.default_factory()


def to_json(config: Any) -> dict[str, Any]:
    """The config as plain JSON values, for metrics.json and model.json."""
    return dataclasses.asdict(config)


def from_json(kind: Any, value: Mapping[str, Any], source: str) -> Any:
    """Build a config dataclass from what `to_json` gave; `source` names it in errors."""
    node = _compose(yaml.safe_dump(dict(value)), source)
    assert node is not None
    return _build(kind, node, "")

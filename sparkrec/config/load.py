"""YAML templates to one frozen, typed config per job.

`load_config` reads a conf, applies ``--set`` overrides, and builds the dataclass of the job:
unknown keys and wrong types are refused. Every mistake is a `ConfigError` that names file and
line.
"""

import contextlib
import dataclasses
import difflib
import inspect
import math
import re
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml

from sparkrec.config.template import (
    apply_override,
    compose,
    is_null,
    or_empty_block,
    plain_value,
    read_template,
    unique_pairs,
    where,
)
from sparkrec.errors import ConfigError

C = TypeVar("C")

# Names with commas between them, and what is indented below.
_ATTRIBUTE = re.compile(r"^(\w[\w, ]*)\n((?:[ ]{4}.*\n?|\n(?=[ ]{4}))+)", re.M)


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
    root = read_template(path, environ)
    for override in overrides:
        apply_override(root, override)
    return typing.cast(C, _build(kind, root, ""))


def _build(kind: Any, node: yaml.Node, key: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_union(arguments, node, key)
    if dataclasses.is_dataclass(origin or kind):
        return _build_dataclass(kind, node, key)
    if origin is typing.Literal:
        value = plain_value(node, key)
        if value not in arguments:
            choices = ", ".join(str(a) for a in arguments)
            raise ConfigError(f"{where(node)}: {key} must be one of {choices}; not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(node, yaml.SequenceNode):
            raise ConfigError(f"{where(node)}: {key} must be a list, as [a, b]")
        return tuple(_build(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(node.value))
    if origin in (dict, Mapping) or kind is dict:
        value_kind = arguments[1] if arguments else Any
        pairs = unique_pairs(node, key)
        return {k: _build(value_kind, child, f"{key}.{k}") for k, (_, child) in pairs.items()}
    return _build_scalar(kind, node, key)


def _build_union(choices: tuple[Any, ...], node: yaml.Node, key: str) -> Any:
    if type(None) in choices and is_null(node):
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
    value = plain_value(node, key)
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
        f"{where(node)}: {key} must be {names.get(kind, kind)}; not {value!r} "
        f"({'nothing' if value is None else type(value).__name__})"
    )


def _build_dataclass(kind: Any, node: yaml.Node, key: str) -> Any:
    fields = _fields(kind)
    pairs = unique_pairs(node, key)
    prefix = f"{key}." if key else ""
    for name, (key_node, _) in pairs.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            known = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(fields)}"
            raise ConfigError(f"{where(key_node)}: unknown key `{prefix}{name}`; {known}")
    values = {}
    for name, (field, hint) in fields.items():
        if name in pairs:
            child = pairs[name][1]
            if dataclasses.is_dataclass(hint):
                child = or_empty_block(child)
            values[name] = _build(hint, child, f"{prefix}{name}")
        elif _is_required(field):
            raise ConfigError(f"{where(node)}: missing key `{prefix}{name}`")
    try:
        return (typing.get_origin(kind) or kind)(**values)
    except ValueError as error:
        named = str(error).split(" ", 1)[0]
        at = pairs[named][1] if named in pairs else node
        raise ConfigError(f"{where(at)}: {prefix}{error}") from None


def describe_keys(kind: Any, prefix: str = "") -> list[str]:
    """A line a key of a config dataclass: dotted name, type and default; below it, indented, what
    the class's docstring says of it. For `-h`."""
    lines, meanings = [], _meanings(typing.get_origin(kind) or kind)
    for name, (field, hint) in _fields(kind).items():
        # An optional block (`Block | None`) has keys to list as well.
        blocks = [kind for kind in typing.get_args(hint) if dataclasses.is_dataclass(kind)]
        block = hint if dataclasses.is_dataclass(typing.get_origin(hint) or hint) else None
        if block is None and len(blocks) == 1 and typing.get_origin(hint) is not tuple:
            block = blocks[0]
        if block is not None:
            lines += describe_keys(block, f"{prefix}{name}.")
            continue
        default = "required" if _is_required(field) else f"default {_default(field)!r}"
        kind_name = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        lines.append(f"{prefix}{name}: {kind_name} ({default})")
        lines += textwrap.wrap(meanings.get(name, ""), 90, initial_indent="    ",
                               subsequent_indent="    ")  # fmt: skip
    return lines


def _meanings(cls: type) -> dict[str, str]:
    """What the `Attributes` of a class's docstring, and of its bases', say of each field."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        _, _, listed = inspect.cleandoc(one.__doc__ or "").partition("Attributes\n----------\n")
        for names, text in re.findall(
            r"^(\w[\w, ]*)\n((?:[ ]{4}.*\n?|\n(?=[ ]{4}))+)", listed, re.M
        ):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def _fields(kind: Any) -> dict[str, tuple["dataclasses.Field[Any]", Any]]:
    """Fields of a dataclass and their types, with a generic's arguments for its parameters."""
    cls = typing.get_origin(kind) or kind
    hints = typing.get_type_hints(cls)
    arguments = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(kind), strict=False))
    return {
        field.name: (field, arguments.get(hints[field.name], hints[field.name]))
        for field in dataclasses.fields(cls)
    }


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


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
    node = compose(yaml.safe_dump(dict(value)), source)
    assert node is not None
    return _build(kind, node, "")

"""Loads a YAML template as the frozen, typed config of a job.

`load_config` reads a conf, applies ``--set`` overrides, and builds the dataclass of the job. It
refuses unknown keys and wrong types. Every mistake is a `ConfigError` with file and line.
"""

import contextlib
import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sparkrec.config.nodes import (
    compose,
    is_null,
    or_empty_block,
    plain_value,
    unique_pairs,
    where,
)
from sparkrec.config.secrets import redact, refuse_secrets
from sparkrec.config.template import apply_override, read_template
from sparkrec.errors import ConfigError, cut, shown

C = TypeVar("C")

# Key of the metadata of a field whose name in a conf differs from the field's: `model.class`.
KEY = "key"
# Marks a field that is no key: the loader sets it to the name of the conf.
FROM_LOADER = "from_loader"


def load_config(
    path: str,
    kind: type[C] | Callable[[Mapping[str, Any]], type[C]],
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> C:
    """Load a conf as the frozen dataclass `kind`.

    Parameters
    ----------
    path
        YAML file on the local disk.
    kind
        A dataclass, or a generic one with its argument (`TwoTowerJob[DSSMConfig]`); or a function
        that chooses it by the conf's plain values. Fields without a default are required, except
        dataclasses whose fields all have defaults. `__post_init__` may raise
        ValueError("<field> must ..."). A field whose metadata has the `KEY` "block.key" is read
        from that key of another block.
    overrides
        Overrides of the form `key.sub=value`, with the value in YAML, as given with `--set`.
    environ
        The environment variables; `os.environ` by default.

    Raises
    ------
    ConfigError
        Missing file, unset variable, malformed YAML, duplicate or unknown key, wrong type,
        missing key, value out of range, secret among Spark's settings.
    """
    root = read_template(path, environ)
    for override in overrides:
        apply_override(root, override)
    refuse_secrets(root)
    if not (isinstance(kind, type) or typing.get_origin(kind)):
        kind = kind(_plain(root))
    config: Any = _build(kind, root, "")
    named = {
        field.name: conf_name(path)
        for field in dataclasses.fields(config)
        if FROM_LOADER in field.metadata
    }
    return typing.cast(C, dataclasses.replace(config, **named))


def conf_name(path: str) -> str:
    """The name of a conf: `dssm_ml_1m` of `conf/dssm_ml_1m.yaml` and of `dssm_ml_1m.yaml.dev`."""
    return Path(path).name.removesuffix(".dev").removesuffix(".yaml").removesuffix(".yml")


def _plain(node: yaml.MappingNode) -> dict[str, Any]:
    """The single values of a conf and of its blocks; lists are left out."""
    found: dict[str, Any] = {}
    for key_node, child in node.value:
        if isinstance(child, yaml.MappingNode):
            found[str(key_node.value)] = _plain(child)
        elif isinstance(child, yaml.ScalarNode):
            found[str(key_node.value)] = plain_value(child, str(key_node.value))
    return found


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
            raise ConfigError(f"{where(node)}: {key} must be one of {choices}; not {shown(value)}")
        return value
    if origin is tuple:
        if not isinstance(node, yaml.SequenceNode):
            raise ConfigError(f"{where(node)}: {key} must be a list, as [a, b]")
        return tuple(_build(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(node.value))
    if origin in (dict, Mapping) or kind is dict:
        value_kind = arguments[1] if arguments else Any
        pairs = unique_pairs(node, key)
        return {k: _build(value_kind, child, f"{key}.{cut(k)}") for k, (_, child) in pairs.items()}
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
    if kind is float and type(value) in (int, str):
        # YAML 1.1 reads 1e-3 as text. A whole number can be too large for a float.
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if type(value) is kind and (kind is not float or math.isfinite(value)):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise ConfigError(
        f"{where(node)}: {key} must be {names.get(kind, kind)}; not {shown(value)} "
        f"({'nothing' if value is None else type(value).__name__})"
    )


def _build_dataclass(kind: Any, node: yaml.Node, key: str) -> Any:
    fields = {
        name: pair for name, pair in fields_of(kind).items() if FROM_LOADER not in pair[0].metadata
    }
    pairs = unique_pairs(node, key)
    prefix = f"{key}." if key else ""
    values, at = {}, {}
    for name, (field, hint) in fields.items():
        if KEY in field.metadata:
            taken = _take_nested(pairs, field.metadata[KEY])
            if taken is not None:
                values[name], at[name] = _build(hint, taken, field.metadata[KEY]), taken
            elif is_required(field):
                raise ConfigError(f"{where(node)}: missing key `{field.metadata[KEY]}`")
    fields = {name: pair for name, pair in fields.items() if KEY not in pair[0].metadata}
    for name, (key_node, _) in pairs.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            known = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(fields)}"
            raise ConfigError(f"{where(key_node)}: unknown key `{cut(prefix + name)}`; {known}")
    for name, (field, hint) in fields.items():
        block = dataclasses.is_dataclass(typing.get_origin(hint) or hint)
        if name in pairs:
            child = at[name] = pairs[name][1]
            values[name] = _build(
                hint, or_empty_block(child) if block else child, f"{prefix}{name}"
            )
        elif is_required(field):
            if not block or any(is_required(inner) for inner, _ in fields_of(hint).values()):
                raise ConfigError(f"{where(node)}: missing key `{prefix}{name}`")
            values[name] = (typing.get_origin(hint) or hint)()
    try:
        return (typing.get_origin(kind) or kind)(**values)
    except ValueError as error:
        named, message = re.split(r"\W", str(error), maxsplit=1)[0], str(error)
        text = values.get(named)
        if isinstance(text, str):
            message = message.replace(text, cut(text))
        raise ConfigError(f"{where(at.get(named, node))}: {prefix}{message}") from None


def _take_nested(pairs: dict[str, tuple[yaml.Node, yaml.Node]], key: str) -> yaml.Node | None:
    """Remove `block.key` from a block and return its value, or None if it is not there."""
    block, _, name = key.partition(".")
    if block not in pairs or not isinstance(pairs[block][1], yaml.MappingNode):
        return None
    key_node, child = pairs[block]
    found = unique_pairs(child, block).get(name)
    if found is None:
        return None
    rest = [pair for pair in child.value if pair[0].value != name]
    pairs[block] = key_node, yaml.MappingNode(child.tag, rest, child.start_mark, child.end_mark)
    return found[1]


def fields_of(kind: Any) -> dict[str, tuple["dataclasses.Field[Any]", Any]]:
    """Fields of a dataclass and their types, with the type parameters of a generic replaced."""
    cls = typing.get_origin(kind) or kind
    hints = typing.get_type_hints(cls)
    arguments = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(kind), strict=False))
    return {
        field.name: (field, arguments.get(hints[field.name], hints[field.name]))
        for field in dataclasses.fields(cls)
    }


def is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def to_json(config: Any) -> dict[str, Any]:
    """The config as plain JSON values, with keys as in a conf, for metrics.json and model.json.

    Secrets among Spark's settings are redacted.
    """
    values = dataclasses.asdict(config)
    if isinstance(values.get("spark"), dict):
        values["spark"] = redact(values["spark"])
    for field in dataclasses.fields(config):
        if KEY in field.metadata:
            block, _, key = field.metadata[KEY].partition(".")
            values[block] = {key: values.pop(field.name), **values[block]}
        if FROM_LOADER in field.metadata:
            del values[field.name]
    return values


def from_json(kind: Any, value: Mapping[str, Any], source: str) -> Any:
    """Build a config dataclass from the output of `to_json`; `source` names it in errors."""
    node = compose(yaml.safe_dump(dict(value)), source)
    assert node is not None
    return _build(kind, node, "")

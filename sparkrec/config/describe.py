"""Describes configs: the keys that a conf may have, and the values of one conf."""

import dataclasses
import inspect
import re
import textwrap
import typing
from typing import Any

import yaml

from sparkrec.bounds import bounded_fields, bounds_of
from sparkrec.config.load import FROM_LOADER, KEY, fields_of, is_required, to_json

# Names separated by commas, and the indented text below them.
_ATTRIBUTE = re.compile(r"^(\w[\w, ]*)\n((?:[ ]{4}.*\n?|\n(?=[ ]{4}))+)", re.M)


def describe_keys(kind: Any, prefix: str = "") -> list[str]:
    """Describe the keys of a config dataclass, for `-h`.

    Every key has a line with its dotted name, type and default, and below it, indented, its
    description from the docstring of the class.
    """
    lines, meanings = [], field_docs(typing.get_origin(kind) or kind)
    for name, (field, hint) in fields_of(kind).items():
        if FROM_LOADER in field.metadata:
            continue
        name = field.metadata.get(KEY, name)
        # The keys of an optional block (`Block | None`) are listed as well.
        blocks = [kind for kind in typing.get_args(hint) if dataclasses.is_dataclass(kind)]
        block = hint if dataclasses.is_dataclass(typing.get_origin(hint) or hint) else None
        if block is None and len(blocks) == 1 and typing.get_origin(hint) is not tuple:
            block = blocks[0]
        if block is not None:
            lines += describe_keys(block, f"{prefix}{name}.")
            continue
        default = "required" if is_required(field) else f"default {_default(field)!r}"
        kind_name = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        bounds = bounds_of(bounded_fields(typing.get_origin(kind) or kind).get(field.name))
        kind_name += f", {bounds}" if bounds else ""
        lines.append(f"{prefix}{name}: {kind_name} ({default})")
        lines += textwrap.wrap(meanings.get(field.name, ""), 90, initial_indent="    ",
                               subsequent_indent="    ")  # fmt: skip
    return lines


def field_docs(cls: type) -> dict[str, str]:
    """Descriptions of fields from the `Attributes` of the docstrings of a class and its bases."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        _, _, listed = inspect.cleandoc(one.__doc__ or "").partition("Attributes\n----------\n")
        for names, text in _ATTRIBUTE.findall(listed):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def effective_conf(config: Any) -> str:
    """The config as YAML with all defaults; a conf that loads as the same config."""
    return yaml.safe_dump(_lists(to_json(config)), sort_keys=False, allow_unicode=True)


def _lists(value: Any) -> Any:
    """Convert tuples, which YAML does not have, to lists."""
    if isinstance(value, dict):
        return {key: _lists(child) for key, child in value.items()}
    return [_lists(child) for child in value] if isinstance(value, list | tuple) else value


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    assert field.default_factory is not dataclasses.MISSING
    return field.default_factory()

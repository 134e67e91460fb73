"""Recipes' values as YAML text, and back without loss: YAML 1.2's core schema, which PyYAML has not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

# As people write them; the rest follows.
_FIRST = ("name", "seed", "policy", "teacher", "teachers", "task", "tasks", "rollout", "verifier", "stages")

# PyYAML reads YAML 1.1, where 1e-5 is a text, `on` is true and 2026-01-01 is a date. Recipes follow
# YAML 1.2's core schema, for reading and for deciding which texts need quotes when written.
_PLAIN_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars; a key written twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else key_node
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """Quotes exactly the texts that ``_Loader`` would read as something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


class _OneLine(_Dumper):
    """Quotes every text, so that line breaks are escapes."""


def _integer(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    try:
        return int(node.value)
    except ValueError:  # Python reads no more than 4,300 digits
        told = f"an integer of {len(node.value)} digits is too long"
        raise yaml.constructor.ConstructorError(None, None, told, node.start_mark) from None


_Loader.yaml_implicit_resolvers = {}
_Dumper.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _PLAIN_SCALARS:
    for _class in (_Loader, _Dumper):
        _firsts = ["" if character == "\0" else character for character in _first]
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _firsts)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor(
    "tag:yaml.org,2002:float",
    lambda loader, node: float(re.sub(r"^([-+]?)\.(?=[inINF]|nan|NaN)", r"\1", node.value)),
)
_Dumper.add_representer(
    float, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))
)
# A text of the command line is of a class of its own: `rlad_core.sections.paths.Typed`.
_Dumper.add_multi_representer(str, _Dumper.represent_str)
_OneLine.add_representer(
    str, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"')
)


def parse(text: str) -> Any:
    """Read YAML the way recipes are read.

    Raises:
        yaml.YAMLError: it is none, a key is there twice, or what it holds is too deep or too long to be read.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.YAMLError("it has too many levels") from None


def dump_values(values: Mapping[str, Any]) -> str:
    """The values of a recipe or a suite as YAML, the way :func:`parse` reads it."""
    ordered = {key: values[key] for key in (*_FIRST, *values) if key in values}
    # ASCII only: with allow_unicode PyYAML leaves line separators unquoted and reads them back as spaces.
    return yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, width=110)


def one_line(value: Any) -> str:
    """A value as ``--set`` takes it behind the ``=``: YAML in one line, which :func:`parse` reads back.

    JSON is none: it has two escapes for a character beyond 16 bits, and other words for what is not finite.
    """
    text: str = yaml.dump([value], Dumper=_OneLine, default_flow_style=True, sort_keys=False, width=math.inf)
    return text[1:-2]  # a value alone would have the end of a document behind it

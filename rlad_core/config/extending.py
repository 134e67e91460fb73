"""``extends: NAME``: a recipe that is another one, with a few settings changed.

NAME is a recipe beside the file, or one that ships with the project. Sections are laid over its sections key
by key; a list or a value takes the place of what was there, and ``null`` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlad_core.sections.problems import ConfigError, Problem

KEY = "extends"


def extended(data: Any, file: Path, read: Callable[[Path], Any], find: Callable[[Path], Path]) -> Any:
    """The values of a recipe with those of the recipes that it extends.

    Args:
        data: what the file says.
        file: where it was read.
        read: the values of a file.
        find: the file of a name, see `rlad_core.config.loading.load`.

    Raises:
        ConfigError: there is no such recipe, it is none, or it extends itself.
    """
    chain = [file.resolve()]
    layers = [data]
    while isinstance(layers[-1], dict) and KEY in layers[-1]:
        name = layers[-1].pop(KEY)
        if not isinstance(name, str) or "/" in name or "\\" in name:
            raise _refused(chain[-1], name, "is no name. Write a recipe of the same folder, or a shipped one")
        stem = name.removesuffix(".yaml")
        beside = chain[-1].parent / f"{stem}.yaml"
        try:
            base = (beside if beside.is_file() else find(Path(stem))).resolve()
        except ConfigError as error:
            advice = f"is no recipe in {beside.parent}, and none of that name ships. Write the name of one"
            raise _refused(chain[-1], name, advice) from error
        if base in chain:
            raise _refused(chain[-1], name, "extends this recipe, and so itself. Write another one")
        chain.append(base)
        layers.append(read(base))
    found = layers.pop()
    if layers and not isinstance(found, dict):
        raise _refused(file, chain[-1].stem, "has no keys, and nothing to change")
    while layers:
        found = _over(found, layers.pop())
    return found


def _over(base: Any, changes: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(changes, Mapping)):
        return changes
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _over(base[key], value) if key in base else value
    return merged


def _refused(file: Path, name: Any, advice: str) -> ConfigError:
    return ConfigError(str(file), [Problem(KEY, name, advice)])

"""Paths in recipes: in the file they are relative to the file, after ``--set`` to where one types, in a suite
of runs to the suite.

Whether something is there is asked of `os.path`: a text that is too long for any name, or a folder into which
one may not look, has nothing in it, where `pathlib` raises.

`FOLDER` is the key of pydantic's validation context that holds the recipe's folder, and `CHECKED` says that
the recipe was checked in another process: users' code is then loaded where it is used, and not before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from rlad_core.sections import code

FOLDER = "folder"
CHECKED = "checked"


class Typed(str):
    """A text from the command line, or from a file beside the recipe's.

    Attributes:
        folder: that a relative path in it starts from; None: the current one.
    """

    folder: Path | None = None


def typed(value: Any, folder: Path | None = None) -> Any:
    """A value from the command line, its texts marked as `Typed`."""
    if isinstance(value, str):
        text = Typed(value)
        text.folder = folder
        return text
    if isinstance(value, list):
        return [typed(each, folder) for each in value]
    if isinstance(value, dict):
        return {key: typed(each, folder) for key, each in value.items()}
    return value


def folder_of(value: str, info: ValidationInfo) -> Path:
    """What a relative path starts from."""
    folder = value.folder if isinstance(value, Typed) else (info.context or {}).get(FOLDER)
    return Path(folder or Path.cwd())


def was_checked(info: ValidationInfo) -> bool:
    """Whether the recipe was checked before, see `CHECKED`."""
    return bool((info.context or {}).get(CHECKED))


def expanded(path: str) -> Path:
    """With the home directory for ``~``; of somebody who has none it stays as it is."""
    return Path(os.path.expanduser(path))


def _output(value: Any) -> Any:
    return str(expanded(value)) if isinstance(value, str) and value else value


def _storage(value: Any) -> Any:
    if not isinstance(value, str) or not value or "://" in value:
        return value
    return str(expanded(value).absolute())


def _path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str) or not value:
        return value
    return str((folder_of(value, info) / expanded(value)).absolute())


def _place(value: Any, info: ValidationInfo) -> Any:
    return code.absolute(value, folder_of(value, info)) if code.is_place(value) else value


def _model(value: Any, info: ValidationInfo) -> Any:
    """A folder beside the recipe, or where one types; anything else (a hub id, rlad:NAME) as it is."""
    if isinstance(value, str) and value:
        folder = folder_of(value, info) / expanded(value)
        if os.path.isdir(folder):
            return str(folder.absolute())
    return value


def _text(value: Any, info: ValidationInfo) -> Any:
    """What has no brace is no template, but a file that holds one."""
    if not isinstance(value, str) or not value or "{" in value:
        return value
    file = folder_of(value, info) / expanded(value)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read ({error}). Write a file with the template, or its text") from error


RecipePath = Annotated[str, Field(min_length=1), BeforeValidator(_path)]
"""A file or folder; absolute once it is read."""
OutputFolder = Annotated[str, Field(min_length=1), BeforeValidator(_output)]
"""A folder that is written to, relative to where one types."""
StoragePlace = Annotated[str, Field(min_length=1), BeforeValidator(_storage)]
"""A folder that other processes write to, whose current folders are others: relative to where one types, and
absolute once it is read; or an address of fsspec, which stays as it is.
"""
CodePlace = Annotated[str, BeforeValidator(_place)]
"""A user's class or function, see `rlad_core.sections.code`; a file's path is absolute once it is read."""
TemplateText = Annotated[str, Field(min_length=1), BeforeValidator(_text)]
"""A template's text, or the file that holds it, whose text is kept from then on."""
ModelReference = Annotated[str, BeforeValidator(_model)]
"""A folder in Hugging Face layout, a hub id, or rlad:NAME."""

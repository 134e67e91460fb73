"""Code that users bring, by its place: ``my_tasks.py:Riddles`` (a file) or ``package.module:Riddles``.

A file is run as a module of its own, in every process that needs it. With ``import`` it reaches the files
beside it too, after all that is installed: a user's ``services.py`` takes nobody's place, and two folders may
have files of one name. Its text travels with whatever is sent to another machine (`sources_of`, `receive`),
under the path that it has at home, which errors name there too.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_received: dict[str, str] = {}
"""Text of files that came from elsewhere, by path."""
_folders: list[str] = []
"""Folders of the files that were loaded."""
_OWN = "rlad_own_"


class CodeError(ValueError):
    """The code is not there or does not run; says what happened, with the user's own file and line."""


def is_place(text: object) -> bool:
    """Whether a text names code: ``file.py:Name`` or ``package.module:Name``."""
    if not isinstance(text, str):
        return False
    source, colon, name = text.rpartition(":")
    return bool(colon) and bool(source) and name.isidentifier() and not source.endswith(":")


def is_file(place: str) -> bool:
    """Whether a place names a file, not an installed module."""
    source = place.rpartition(":")[0]
    return source.endswith(".py") or "/" in source


def name_in(place: str) -> str:
    """What a place calls the class or function."""
    return place.rpartition(":")[2]


def absolute(place: str, folder: Path) -> str:
    """The place with an absolute path, where it names a file.

    Args:
        folder: that relative paths start from.
    """
    source, _, name = place.rpartition(":")
    if not is_file(place):
        return place
    return f"{(folder / os.path.expanduser(source)).absolute()}:{name}"


def load(place: str) -> Any:
    """The class or function of a place; a file's path is absolute.

    Raises:
        CodeError: there is no such file, module or name, or running it fails.
    """
    source, _, name = place.rpartition(":")
    module = _loaded(source) if is_file(place) else _import(source)
    try:
        return getattr(module, name)
    except AttributeError:
        public = [
            each
            for each, made in vars(module).items()
            if not each.startswith("_") and getattr(made, "__module__", None) == module.__name__
        ]
        raise CodeError(f"there is no {name} in {source}; it has {', '.join(public) or 'nothing'}") from None


def sources_of(places: Iterable[str]) -> dict[str, str]:
    """The text of the files that places name, and of those beside them that they import, by absolute path.

    Raises:
        CodeError: a file cannot be read.
    """
    found: dict[str, str] = {}
    waiting = [place.rpartition(":")[0] for place in places if is_file(place)]
    while waiting:
        if (path := waiting.pop()) not in found:
            found[path] = _text(path)
            waiting += _siblings(path, found[path])
    return found


def receive(sources: Mapping[str, str]) -> None:
    """Have `load` take these texts for the files of these paths, in this process."""
    _received.update(sources)


def fault(error: BaseException) -> str:
    """What an exception says, with the last place in a user's file that it came through.

    A `CodeError` says its place itself.
    """
    if isinstance(error, CodeError):
        return str(error)
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename):
        return f"{type(error).__name__}: {error.msg} ({Path(error.filename).name}, line {error.lineno})"
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - a user's may raise when it is asked what it says
        text = ""
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_users(frame.filename):
            return f"{said} ({Path(frame.filename).name}, line {frame.lineno})"
    return said


def defined(thing: Any) -> str:
    """Where a user's function or class stands, as ``reward.py, line 12``."""
    code = getattr(thing, "__code__", None)
    if code is not None:
        return f"{Path(code.co_filename).name}, line {code.co_firstlineno}"
    module = sys.modules.get(getattr(thing, "__module__", ""))
    return Path(getattr(module, "__file__", None) or "?").name


def _is_users(path: str) -> bool:
    return str(Path(path).parent) in _folders


class _Loader(importlib.abc.SourceLoader):
    """Runs a file's text, wherever that comes from, under the file's path."""

    def __init__(self, path: str) -> None:
        self._path = path

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_data(self, path: bytes | str) -> bytes:
        if str(path) != self._path:
            raise OSError(f"{path!r} is not asked for")  # compiled files, which there are none of
        return _text(self._path).encode()


def _importer(folder: str) -> Callable[..., ModuleType]:
    """What ``import`` does in the files of a folder: those beside them come after all that is installed.

    They are modules under names of our own, so that another folder's file of the same name is another module,
    also where an import stands inside a function.
    """

    def imported(
        name: str,
        variables: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        names: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        beside = str(Path(folder, f"{name}.py"))
        if level == 0 and name.isidentifier() and _there(beside) and not _is_installed(name):
            return _run(beside)
        return builtins.__import__(name, variables, local, names or (), level)

    return imported


def _is_installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _loaded(path: str) -> ModuleType:
    try:
        return _run(path)
    except (CodeError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise CodeError(f"{path} does not run: {fault(error)}") from error


def _run(path: str) -> ModuleType:
    text = _text(path)
    digest = hashlib.sha256(f"{path}\0{text}".encode(errors="surrogatepass")).hexdigest()[:12]
    name = f"{_OWN}{digest}_{Path(path).stem}"
    if name in sys.modules:
        return sys.modules[name]
    if (folder := str(Path(path).parent)) not in _folders:
        _folders.append(folder)
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importer(folder)}
    sys.modules[name] = module
    try:
        _Loader(path).exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import(name: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == name
        of_a_file = f". Of a file write {name}.py:NAME" if is_absent else ""
        raise CodeError(f"the module {name} cannot be imported: {fault(error)}{of_a_file}") from error
    if not name.startswith("rlad_core.") and (path := getattr(module, "__file__", None)):
        _folders.append(str(Path(path).parent))
    return module


def _there(path: str) -> bool:
    return path in _received or Path(path).is_file()


def _text(path: str) -> str:
    if path in _received:
        return _received[path]
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CodeError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _siblings(path: str, text: str) -> list[str]:
    """Files beside `path` that its text imports."""
    try:
        tree = ast.parse(text)
    except SyntaxError:  # told when it is run
        return []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
    beside = (str(Path(path).parent / f"{name}.py") for name in sorted(names))
    return [each for each in beside if _there(each)]

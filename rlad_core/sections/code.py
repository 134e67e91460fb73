"""Code that users bring, by its place: ``my_tasks.py:Riddles`` (a file) or ``package.module:Riddles``.

A file is run as a module of its own, in every process that needs it. It may import the files beside it, after
all that is installed: a user's ``services.py`` takes nobody's place. Its text travels with whatever is sent
to another machine (`sources_of`, `receive`), under the path that it has at home, which errors name there too.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType, ModuleType
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
    return f"{(folder / Path(source).expanduser()).absolute()}:{name}"


def load(place: str) -> Any:
    """The class or function of a place; a file's path is absolute.

    Raises:
        CodeError: there is no such file, module or name, or running it fails.
    """
    source, _, name = place.rpartition(":")
    module = _run(source) if is_file(place) else _import(source)
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
    """What an exception says, with the last place in a user's file that it came through."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename):
        return f"{said.splitlines()[0]} ({Path(error.filename).name}, line {error.lineno})"
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


class _BesideUsersFiles(importlib.abc.MetaPathFinder):
    """The last to be asked: modules that lie beside the user's file that imports them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        folder = _folder_that_imports() if path is None else None
        if folder is not None and _there(file := str(Path(folder, f"{fullname}.py"))):
            return importlib.util.spec_from_file_location(fullname, file, loader=_Loader(file))
        return None


def _folder_that_imports() -> str | None:
    """The folder of the innermost user's file that is being run."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if (folder := str(Path(frame.f_code.co_filename).parent)) in _folders:
            return folder
        frame = frame.f_back
    return None


def _run(path: str) -> ModuleType:
    text = _text(path)
    digest = hashlib.sha256(f"{path}\0{text}".encode()).hexdigest()[:12]
    name = f"{_OWN}{digest}_{Path(path).stem}"
    if name in sys.modules:
        return sys.modules[name]
    if not any(isinstance(finder, _BesideUsersFiles) for finder in sys.meta_path):
        sys.meta_path.append(_BesideUsersFiles())
    if (folder := str(Path(path).parent)) not in _folders:
        _folders.append(folder)
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        _Loader(path).exec_module(module)
    except KeyboardInterrupt:
        del sys.modules[name]
        raise
    except BaseException as error:
        del sys.modules[name]
        raise CodeError(f"{path} does not run: {fault(error)}") from error
    finally:
        # Another user's file may have others of the same names beside it.
        for each in [each for each, beside in sys.modules.items() if _is_beside(beside)]:
            del sys.modules[each]
    return module


def _is_beside(module: ModuleType) -> bool:
    return isinstance(getattr(module, "__loader__", None), _Loader) and not module.__name__.startswith(_OWN)


def _import(name: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise CodeError(f"the module {name} cannot be imported: {fault(error)}") from error
    if not name.startswith("rlad_core.") and (path := getattr(module, "__file__", None)):
        _folders.append(str(Path(path).parent))
    return module


def _there(path: str) -> bool:
    return path in _received or Path(path).is_file()


def _text(path: str) -> str:
    if path in _received:
        return _received[path]
    try:
        return Path(path).read_text(encoding="utf-8")
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

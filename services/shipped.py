"""Where the files that ship with rlad are: recipes and tiny models, in a checkout or an installed wheel.

They live in ``deploy/`` of the repository and in the package ``services.deploy`` of an installation.
"""

from importlib.resources import files
from pathlib import Path


def shipped(relative: str) -> Path:
    """Path of a shipped file or folder, such as ``recipes/kk-tiny-trrd.yaml`` or ``models/kk-student``.

    Raises:
        FileNotFoundError: there is none of that name; lists what its folder holds.
    """
    root = Path(str(files("services.deploy")))
    path = root / relative
    if not path.exists():
        folder = path.parent
        names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
        raise FileNotFoundError(f"rlad ships no {relative}; {folder} holds: {', '.join(names) or 'nothing'}")
    return path


def locate(path: str | Path) -> Path:
    """A path as it is, or, where ``deploy/...`` is not below the current folder, the shipped file it names.

    So that ``rlad run deploy/recipes/kk-tiny-trrd.yaml`` and the models a recipe names work from anywhere.

    Raises:
        FileNotFoundError: neither is there.
    """
    path = Path(path)
    if path.exists():
        return path
    if path.parts[:1] == ("deploy",):
        return shipped(str(Path(*path.parts[1:])))
    raise FileNotFoundError(f"{path} does not exist (looked from {Path.cwd()})")

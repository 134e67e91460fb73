"""What the programs of this folder share: a file beside each overlay's settings, written or only checked."""

import argparse
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OVERLAYS = ROOT / "k8s" / "overlays"


def write_overlays(
    settings: str, target: str, text_of: Callable[[Path], str], arguments: list[str] | None = None
) -> int:
    """Write ``target`` of each overlay that has ``settings``, where it is not what it should be.

    Args:
        text_of: an overlay's settings file -> what its target holds.
        arguments: of the command line; ``--check`` writes nothing.

    Returns:
        The exit code: 1 where a file is out of date and was only checked.
    """
    parser = argparse.ArgumentParser(description=f"Write {target} of the overlays that have {settings}.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file is out of date")
    check = parser.parse_args(arguments).check
    stale = []
    for source in sorted(OVERLAYS.glob(f"*/{settings}")):
        file, text = source.with_name(target), text_of(source)
        if not file.exists() or file.read_text() != text:
            stale.append(file.relative_to(ROOT))
            if not check:
                file.write_text(text)
    for name in stale:
        print(f"{name} {'is out of date' if check else 'written'}")
    return 1 if check and stale else 0

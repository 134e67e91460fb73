"""Temporary files of a replica and of the processes that it starts: with those of its Ray session.

vLLM's engines and Python's multiprocessing put sockets and folders into the machine's temporary folder, under
names that say nothing, and leave them there whenever a process is killed: a replica that is given up, an
engine that hangs. Ray's session has a folder of its own, which tells whose they are.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ray._private import worker

FOLDER = "rlad"
_LONGEST_SOCKET = 107
"""Of a Unix socket's path, in bytes, see unix(7)."""
_LONGEST_NAME = len("/pymp-12345678/listener-12345678")


def session_folder() -> Path | None:
    """The folder of the Ray session that this process belongs to; None: to none."""
    node = worker._global_node
    return Path(node.get_session_dir_path()) if node is not None else None


def use_session_folder(session: Path | None) -> None:
    """Have this process and those that it starts put temporary files into a session's folder.

    Not where the paths of sockets would be too long for the kernel.
    """
    if session is None:
        return
    folder = session / FOLDER
    longest = len(os.fsencode(folder)) + max(_LONGEST_NAME, len("/") + 36)
    if longest > _LONGEST_SOCKET:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    # What torch compiled is of use to later sessions: it stays where it would be.
    compiled = Path(tempfile.gettempdir(), f"torchinductor_{os.environ.get('USER', os.getuid())}")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)

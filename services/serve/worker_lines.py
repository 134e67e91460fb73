"""Log lines of Ray's workers on this process's stderr, where who started them looks.

Ray makes a file of each worker's stderr, in the folder of its session. What is ours there is a JSON object a
line; what libraries say between them stays there. Ray's own log monitor would be a process more, and does not
tell them apart.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ray._private import worker

_LOOK_S = 0.5
_LAST_LOOK_S = 5.0
"""Longest wait for whoever reads our stderr, once all has ended."""
_STDERR = 2


def logs_folder() -> Path:
    """Of the Ray that this process has started or joined, on this machine."""
    return Path(worker._global_node.get_logs_dir_path())


@contextmanager
def passed_on(folder: Path) -> Iterator[None]:
    """While the block lasts, and what was logged until its end."""
    over = threading.Event()
    thread = threading.Thread(target=_follow, args=(folder, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_LAST_LOOK_S)


def _follow(folder: Path, over: threading.Event) -> None:
    read: Counter[Path] = Counter()
    while True:
        last = over.wait(_LOOK_S)
        for file in folder.glob("worker-*.err"):
            read[file] += _pass_on(file, read[file])
        if last:
            return


def _pass_on(file: Path, start: int) -> int:
    """Whole lines from a byte on; says how many bytes they have."""
    done = 0
    with file.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            done += len(line)
            if line.startswith(b"{"):
                with suppress(OSError):  # as on a full disk, which ends no service
                    os.write(_STDERR, line)
    return done

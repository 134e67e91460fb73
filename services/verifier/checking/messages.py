"""What the service and its worker processes tell each other."""

from dataclasses import dataclass

from rlad_core.tasks.base import TaskSpec, Verdict

SLOW_S = 0.1
"""A check that takes longer is slow: what came with it is left to other processes."""

CHUNK_S = 0.05
"""A chunk that has taken longer ends behind the check that it is at, and the rest waits for another turn."""


@dataclass(frozen=True)
class Check:
    """One response to be judged; None: ask for what a response gets whose check failed."""

    task: str
    response: str | None
    gold: str


@dataclass(frozen=True)
class Failed:
    """A check that gave no verdict; `why` completes "the check ..."."""

    kind: str
    why: str


Outcome = Verdict | Failed


@dataclass(frozen=True)
class Setup:
    """What a worker needs before it judges.

    tasks: by name.
    code: texts of users' files by path, see `rlad_core.sections.code.receive`.
    memory_limit_bytes: address space that checks may take beyond what the process has.
    folder: the current folder of checks.
    """

    tasks: dict[str, TaskSpec]
    code: dict[str, str]
    memory_limit_bytes: int
    folder: str


@dataclass(frozen=True)
class Ready:
    """A worker has its tasks.

    users: those of users, by name, and the file that each stands in.
    folders: where users' files lie.
    """

    users: dict[str, str]
    folders: frozenset[str]

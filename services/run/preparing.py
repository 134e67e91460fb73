"""A run's folder held and made ready before anything is started; what is in the way is told in words."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rlad_core.config import RunConfig
from services.base.failures import said
from services.learner import exported
from services.report.page import ReportPaths, write_report
from services.run import folder, forking, replayed
from services.run.errors import RefusedError
from services.run.folder import Prepared
from services.run.lease import HeldError, Lease, leased


@dataclass(frozen=True)
class Fork:
    """A run that goes on from a checkpoint of another one.

    source: the other run's folder. step: after how many steps; None: its last checkpoint.
    """

    source: Path
    step: int | None = None


@dataclass(frozen=True)
class RunOutcome:
    """What a run left."""

    run_dir: Path
    finished: bool
    steps: int
    report: ReportPaths | None
    """None: it could not be written."""


@contextmanager
def held(run_dir: Path, say: Callable[[str], None]) -> Iterator[Lease]:
    """The folder's lease until the block ends, see `leased`.

    Raises:
        RefusedError: another process has it, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            lease = stack.enter_context(leased(run_dir, say))
        except HeldError as error:
            raise RefusedError(f"{error}, or choose another name with --set name=...") from error
        except OSError as error:
            raise RefusedError(f"{run_dir} cannot be written: {error.strerror or error}") from error
        yield lease


@contextmanager
def written(run_dir: Path) -> Iterator[None]:
    """For what a run writes to its folder before anything is started.

    Raises:
        RefusedError: the disk takes nothing more.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise RefusedError(f"{run_dir} cannot be written: {error}") from error


def finished(config: RunConfig, run_dir: Path, say: Callable[[str], None]) -> RunOutcome | None:
    """What a run left that has nothing to do any more; None: it has."""
    if not exported.is_whole(run_dir, config):
        return None
    last = len(config.stages) - 1
    say(
        f"all {config.total_steps} steps are done, nothing is started; for more of them write "
        f"--set stages.{last}.steps=..."
    )
    return RunOutcome(run_dir, True, config.total_steps, reported(run_dir, say))


def reported(run_dir: Path, say: Callable[[str], None]) -> ReportPaths | None:
    """The run's report; None: it could not be written, and that hides nothing of what was before."""
    try:
        return write_report(run_dir)
    except Exception as error:  # noqa: BLE001
        say(f"the report cannot be written: {said(error)}")
        return None


def prepared(
    config: RunConfig,
    run_dir: Path,
    *,
    resume: bool,
    fork: Fork | None = None,
    files: Sequence[Path] = (),
) -> Prepared:
    """The folder as the run wants it: gone on with, begun from another run's checkpoint, or new.

    Args:
        files: recorded steps that it is trained on; none: those that it makes itself.

    Raises:
        RefusedError: it cannot be.
    """
    try:
        if resume:
            replayed.check(run_dir, files)
            return folder.resume(config, run_dir)
        if fork is not None:
            return forking.fork(config, run_dir, fork.source, fork.step)
        return folder.begin(config, run_dir, partial(replayed.note, run_dir, files) if files else None)
    except OSError as error:
        # Read are the run's folder, that of a run that is forked and the user's code; written is the run's.
        place, why = error.filename or run_dir, error.strerror or error
        raise RefusedError(f"{run_dir} cannot be made ready for the run: {place}: {why}") from error

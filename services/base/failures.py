"""What a failure says to a person: the sentence that somebody raised, without the stacks around it."""

from __future__ import annotations

import re
import sys

# The last line of a traceback, with what follows where the message has several.
_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:: |$)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STACKED = ("Traceback (most recent call last)", "*** SIG", "Stack trace:", "[36mray::")
_MOST_LINES = 12


def said(failure: BaseException) -> str:
    """A failure in words; of the learner's ranks, that of one that died, else of the first."""
    if "ray" in sys.modules:
        from ray.exceptions import ActorDiedError, RayTaskError

        if isinstance(failure, RayTaskError) and isinstance(failure.cause, Exception):
            return said(failure.cause)
        if isinstance(failure, ActorDiedError):
            return _of_actor(str(failure))
        if ranks := getattr(failure, "worker_failures", None):  # Ray Train's WorkerGroupError
            # What it raised, or why it did not answer when its health was asked for.
            causes = {
                rank: getattr(error, "health_check_failure", None) or error for rank, error in ranks.items()
            }
            died = [rank for rank, cause in causes.items() if isinstance(cause, ActorDiedError)]
            rank = min(died or causes)  # the others fail because one is gone
            return f"learner rank {rank}: {said(causes[rank])}"
    text = plain(str(failure))
    return text if text else type(failure).__name__


def plain(text: str) -> str:
    """A text without the stacks in it: of several the last one's sentence counts."""
    text = _COLOUR.sub("", text).strip()
    if not any(mark in text for mark in _STACKED):
        return text
    lines = text.splitlines()
    raised = [place for place, line in enumerate(lines) if _RAISED.match(line)]
    said_last = (
        lines[raised[-1] :] if raised else [line for line in lines if not line.startswith((" ", "\t"))]
    )
    return "\n".join(said_last[:_MOST_LINES]).strip()


def _of_actor(text: str) -> str:
    """Ray tells name, ids and address, a line each, and then the cause."""
    fields = dict(re.findall(r"^\s*(class_name|pid|ip): (\S+)$", text, re.MULTILINE))
    where = f" ({fields['pid']} on {fields['ip']})" if {"pid", "ip"} <= fields.keys() else ""
    died = f"the process{where} of {fields.get('class_name', 'an actor')} died"
    if "Worker exit type: SYSTEM_ERROR" in text:
        return f"{died}: it crashed, or was killed, by somebody or by the kernel where memory ran out"
    reasons = [line.strip() for line in text.splitlines()[1:] if line and not re.match(r"\s*\w+: ", line)]
    return f"{died}. {' '.join(reasons)[:400]}".strip()

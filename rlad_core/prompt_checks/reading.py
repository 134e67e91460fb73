"""What the tasks of a recipe give as prompts, before anybody tokenizes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rlad_core.config import EvaluationRecipe
from rlad_core.prompt_checks.findings import Dropped, Progress, PromptsRefusedError, Use, silent
from rlad_core.prompt_checks.soundness import problem_of, unsound, where
from rlad_core.prompt_stream import Tasks, prompts_of
from rlad_core.sections import code
from rlad_core.tasks import Part, Prompt


@dataclass
class Read:
    """The sound prompts of some parts.

    dropped: rows and prompts that are none. empty: parts of which nothing is left.
    """

    prompts: list[Prompt] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def parts_of(config: EvaluationRecipe, use: Use) -> list[tuple[str, Part]]:
    """The parts that are trained on or held out, each with its task's name."""
    return [
        (section.label, part)
        for section in config.task_sections.values()
        for part in (section.train_parts if use == "training" else section.evaluation_parts)
    ]


def read_parts(
    parts: Sequence[tuple[str, Part]], use: Use, tasks: Tasks, progress: Progress = silent
) -> Read:
    """The prompts of these parts; what is wrong with others is noted.

    Raises:
        PromptsRefusedError: a part cannot be read at all.
    """
    read = Read()
    for place, (name, part) in enumerate(parts):
        progress(f"reading {use} data", place, len(parts))
        try:
            prompts = prompts_of(part, name, tasks)
            faults = tasks[name].faults(part.split, part.subset)
            if odd := [prompt for prompt in prompts if not isinstance(prompt.prompt_id, str)]:
                raise TypeError(f"a prompt has the prompt_id {odd[0].prompt_id!r:.60}, which is no text")
        except Exception as error:
            raise PromptsRefusedError(
                f"the prompts of {name}, {part.subset}, cannot be made: {said(error)}", read.dropped
            ) from error
        read.dropped += [Dropped(fault.where, use, part.subset, fault.reason) for fault in faults]
        kept, wrong = sound(prompts, use)
        read.prompts += kept
        read.dropped += wrong
        if not kept:
            read.empty.append(f"{use} {name}, {part.subset}")
    progress(f"reading {use} data", len(parts), len(parts))
    return read


def sound(prompts: Sequence[Prompt], use: Use) -> tuple[list[Prompt], list[Dropped]]:
    """Those that are prompts, and what is wrong with the others."""
    found: list[Prompt] = []
    wrong: list[Dropped] = []
    for prompt in prompts:
        if reason := unsound(prompt):
            wrong.append(dropped(prompt, use, reason))
        else:
            found.append(prompt)
    return found, wrong


def without_held_out(
    trained: Sequence[Prompt], held_out: Sequence[Prompt]
) -> tuple[list[Prompt], list[Dropped]]:
    """Those that are not held out too, and the others, with where they are."""
    evaluated = {problem_of(prompt): prompt for prompt in reversed(held_out)}
    kept: list[Prompt] = []
    overlap: list[Dropped] = []
    for prompt in trained:
        if (other := evaluated.get(problem_of(prompt))) is None:
            kept.append(prompt)
        else:
            reason = f"is held out too, in {other.subset} ({where(other)})"
            overlap.append(dropped(prompt, "training", reason))
    return kept, overlap


def dropped(prompt: Prompt, use: Use, reason: str) -> Dropped:
    """A prompt that is not used; a user's task may have made something else of it."""
    subset = str(getattr(prompt, "subset", ""))
    return Dropped(where(prompt), use, subset, reason, getattr(prompt, "prompt_id", None))


def said(error: Exception) -> str:
    """What an exception says; of one in a user's code, also its kind and where."""
    return code.fault(error).removeprefix("ValueError: ").removeprefix("DataError: ")

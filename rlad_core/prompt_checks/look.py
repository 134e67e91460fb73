"""One look at the prompts of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rlad_core import schema
from rlad_core.config import EvaluationRecipe, RunConfig
from rlad_core.language_model.vocabulary import unknown_token
from rlad_core.prompt_checks.findings import Checked, Progress, PromptsRefusedError, Use
from rlad_core.prompt_checks.reading import dropped, parts_of, read_parts, said, sound, without_held_out
from rlad_core.prompt_checks.soundness import answer_of, digest_of, solutions_digest, where
from rlad_core.prompt_stream import (
    PromptTables,
    Selection,
    Tasks,
    chosen,
    different,
    golds_of,
    solution_id,
    tasks_of,
)
from rlad_core.sections import code
from rlad_core.tasks import Prompt
from rlad_core.teacher_prompts import TeacherPrompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH = 256


class Look:
    """One look at a recipe's prompts; counts what it drops for which reason."""

    def __init__(
        self,
        config: EvaluationRecipe,
        tokenizer: PreTrainedTokenizerBase,
        progress: Progress,
        earlier: Checked | None,
        held_out: Sequence[Prompt] | None,
        use: Use,
    ) -> None:
        self._config, self._progress, self._earlier = config, progress, earlier
        self._given, self._use = held_out, use
        self._limit = config.policy.prompt_limit
        self._cut_at = config.policy.cut_at if earlier is None else earlier.selection.limit
        self._tokenizer = tokenizer
        self._whole = PromptTables(tokenizer, chat=config.policy.chat)
        self._tables = PromptTables(tokenizer, cut_at=self._cut_at, chat=config.policy.chat)
        self._found = Checked()
        self.empty: list[str] = []
        """Parts of which nothing is left."""
        self.overlapping = 0
        self.too_long = 0
        self._unknown: set[str] = set()
        """Ids of prompts in which the tokenizer has put its unknown token."""

    def all(self) -> Checked:
        tasks, found = self._tasks(), self._found
        trained: list[Prompt] = []
        if isinstance(self._config, RunConfig):
            trained = self._read("training", tasks)
        if self._given is None:
            held_out = self._read("evaluation", tasks)
        else:
            held_out, wrong = sound(self._given, self._use)
            found.dropped += wrong
        if self._earlier is None:
            trained = different(self._without_contradictions(trained))
            trained = self._without_held_out(trained, held_out)
            trained = list(self._fitting(trained, "training", tasks))
            held_out = list(self._fitting(held_out, self._use, tasks))
            self._note_empty(trained, held_out)
            left_out = {
                use: frozenset(each.prompt_id for each in found.dropped if each.use == use and each.prompt_id)
                for use in ("training", self._use)
            }
            solutions = frozenset(each.solution for each in found.unfit if each.solution is not None)
            found.selection = Selection(left_out["training"], left_out[self._use], solutions, self._cut_at)
        else:
            found.selection = self._earlier.selection
        # By their ids, as the stream leaves them out: of one id a prompt may be sound and another not.
        trained = chosen(trained, found.selection)
        held_out = [p for p in held_out if p.prompt_id not in found.selection.held_out]
        if self._earlier is not None:
            before = len(found.dropped)
            list(self._fitting(trained, "training", tasks))
            list(self._fitting(held_out, "evaluation", tasks))
            self.too_long = len(found.dropped) - before
        found.training, found.held_out = len(trained), len(held_out)
        found.unknown = sum(prompt.prompt_id in self._unknown for prompt in [*trained, *held_out])
        found.digest = digest_of([*trained, *held_out])
        found.solutions = solutions_digest(trained) if self._trains_on_solutions else ""
        return found

    def _tasks(self) -> Tasks:
        try:
            return tasks_of(self._config)
        except Exception as error:
            raise PromptsRefusedError(f"the task cannot be made: {code.fault(error)}") from error

    def _read(self, use: Use, tasks: Tasks) -> list[Prompt]:
        """The sound prompts of a use; what is wrong with others is noted."""
        found = self._found
        try:
            read = read_parts(parts_of(self._config, use), use, tasks, self._progress)
        except PromptsRefusedError as error:
            raise PromptsRefusedError(str(error), [*found.dropped, *error.dropped]) from error
        found.dropped += read.dropped
        self.empty += read.empty
        return read.prompts

    def _without_contradictions(self, prompts: list[Prompt]) -> Iterator[Prompt]:
        """Files may ask the same, with other answers: none of them is trusted."""
        answers: dict[str, dict[str, Prompt]] = {}
        for prompt in prompts:
            answers.setdefault(prompt.prompt_id, {}).setdefault(answer_of(prompt), prompt)
        for prompt in prompts:
            others = [
                each for answer, each in answers[prompt.prompt_id].items() if answer != answer_of(prompt)
            ]
            if not others:
                yield prompt
                continue
            answer, there = answer_of(others[0])[:60], where(others[0])
            self._drop(
                prompt,
                "training",
                f"asks the same as {there} with another answer: {answer_of(prompt)[:60]} and {answer}",
            )

    def _without_held_out(self, trained: list[Prompt], held_out: list[Prompt]) -> list[Prompt]:
        """What is held out is not trained on, unless the recipe wants it."""
        kept, overlap = without_held_out(trained, held_out)
        self.overlapping = len(overlap)
        if self._config.evaluation.overlap == "keep":
            return trained
        self._found.dropped += overlap
        return kept

    def _fitting(self, prompts: Sequence[Prompt], use: Use, tasks: Tasks) -> Iterator[Prompt]:
        """Prompts that the policy can read, and answer within its limits."""
        config = self._config
        solved = use == "training" and self._trains_on_solutions
        teachers = None
        if use == "training" and isinstance(config, RunConfig) and config.scores_with_teacher:
            asked = TeacherPrompts(config, self._tokenizer, tasks)
            teachers = asked if asked.looks_at_prompts else None
        for first in range(0, len(prompts), _BATCH):
            self._progress(f"tokenizing {use} prompts", first, len(prompts))
            batch = prompts[first : first + _BATCH]
            fitting: list[Prompt] = []
            for prompt, tokens in zip(batch, self._lengths(batch), strict=True):
                reason = tokens if isinstance(tokens, str) else self._too_long(tokens)
                if reason is None and teachers is not None:
                    reason = _untaught(teachers, prompt, int(tokens))
                if reason is not None:
                    self._drop(prompt, use, reason)
                    continue
                assert not isinstance(tokens, str)
                self._found.longest = max(self._found.longest, tokens)
                fitting.append(prompt)
            yield from self._solved(fitting, tasks) if solved else fitting
        self._progress(f"tokenizing {use} prompts", len(prompts), len(prompts))

    def _lengths(self, prompts: Sequence[Prompt]) -> list[int | str]:
        """Tokens of each, cut where the recipe says so; or why it cannot be read."""
        try:
            read = self._whole.read(prompts)[1]
        except Exception as error:  # noqa: BLE001 - a chat template may raise anything
            if len(prompts) == 1:
                return [f"the tokenizer or its chat template refuses it: {str(error)[:200]}"]
            half = len(prompts) // 2
            return [*self._lengths(prompts[:half]), *self._lengths(prompts[half:])]
        for place, ids in enumerate(read):
            if self._cut_at is not None and len(ids) > self._cut_at:
                [read[place]] = self._tables.read([prompts[place]])[1]
                self._found.shortened += len(read[place]) <= self._cut_at
        if (unknown := unknown_token(self._tokenizer)) is not None:
            self._unknown.update(p.prompt_id for p, ids in zip(prompts, read, strict=True) if unknown in ids)
        return [len(ids) for ids in read]

    def _too_long(self, tokens: int) -> str | None:
        if tokens == 0:
            return "has no tokens"
        if tokens <= self._limit:
            return None
        self.too_long += 1
        policy = self._config.policy
        setting = (
            f"policy.max_length is {policy.max_length}, and a response has one token at least"
            if policy.max_prompt_length is None
            else f"policy.max_prompt_length is {policy.max_prompt_length}"
        )
        return f"has {tokens} tokens, and {setting}"

    def _solved(self, prompts: Sequence[Prompt], tasks: Tasks) -> Iterator[Prompt]:
        """Prompts whose worked solutions can be trained on."""
        limit = self._config.policy.max_length
        each = [replace(prompt, gold=gold, golds=()) for prompt in prompts for gold in golds_of(prompt)]
        lengths = iter(self._solution_lengths(each, tasks))
        for prompt in prompts:
            unfit: dict[str, str] = {}
            too_long = 0
            for gold in golds_of(prompt):
                tokens = next(lengths)
                if isinstance(tokens, str):
                    unfit[gold] = f"has no worked solution: {tokens}"
                elif tokens > limit:
                    too_long = 1
                    unfit[gold] = (
                        f"has {tokens} tokens with its worked solution, and policy.max_length is {limit}"
                    )
            if len(unfit) == len(golds_of(prompt)):
                self.too_long += too_long
                self._drop(prompt, "training", next(iter(unfit.values())))
                continue
            self._found.unfit += [
                replace(
                    dropped(prompt, "training", reason), prompt_id=None, solution=solution_id(prompt, gold)
                )
                for gold, reason in unfit.items()
            ]
            yield prompt

    @property
    def _trains_on_solutions(self) -> bool:
        return isinstance(self._config, RunConfig) and self._config.trains_on_solutions is not None

    def _solution_lengths(self, prompts: Sequence[Prompt], tasks: Tasks) -> list[int | str]:
        """Tokens of each with its worked solution; or why it has none."""
        try:
            table = self._tables.demonstrations(prompts, [str(place) for place in range(len(prompts))], tasks)
        except Exception as error:  # noqa: BLE001 - a user's task may raise anything
            if len(prompts) == 1:
                return [said(error)]
            half = len(prompts) // 2
            parts = (prompts[:half], prompts[half:])
            return [length for part in parts for length in self._solution_lengths(part, tasks)]
        asked, answered = (
            schema.lengths(table.column(name)) for name in ("prompt_token_ids", "response_token_ids")
        )
        return [int(tokens) for tokens in asked + answered]

    def _note_empty(self, trained: Sequence[Prompt], held_out: Sequence[Prompt]) -> None:
        if not trained and isinstance(self._config, RunConfig):
            self.empty.append("training")
        left = {(prompt.task, prompt.subset) for prompt in held_out}
        asked = {(name, part.subset) for name, part in parts_of(self._config, "evaluation")}
        if self._given is not None:
            asked = {(prompt.task, prompt.subset) for prompt in self._given}
        self.empty += [f"{self._use} {name}, {subset}" for name, subset in sorted(asked - left)]

    def _drop(self, prompt: Prompt, use: Use, reason: str) -> None:
        self._found.dropped.append(dropped(prompt, use, reason))


def _untaught(teachers: TeacherPrompts, prompt: Prompt, tokens: int) -> str | None:
    """Why the prompt cannot be taught; None: it can."""
    try:
        teachers.of(prompt, tokens)
    except Exception as error:  # noqa: BLE001 - a user's task or a chat template may raise anything
        return f"cannot be taught: {said(error)}"
    return None

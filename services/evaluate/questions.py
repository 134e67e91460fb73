"""What is asked: prompts by subset. A problem may be in several: it is answered once, and judged in each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rlad_core.prompt_checks import Use
from rlad_core.tasks import Prompt
from services.evaluate.respondents import Wanted


@dataclass(frozen=True)
class Questions:
    """Prompts, and how many responses to each.

    Args:
        prompts: in the order of tables; one that is twice in a subset counts once.
        samples: responses to each.
        use: which of their tasks' prompts they are.
    """

    prompts: Sequence[Prompt]
    samples: int
    use: Use = "evaluation"
    _by_prompt: dict[str, list[Prompt]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for prompt in self.prompts:
            asked = self._by_prompt.setdefault(prompt.prompt_id, [])
            if prompt.subset not in [each.subset for each in asked]:
                asked.append(prompt)

    @property
    def distinct(self) -> list[Prompt]:
        """Each prompt once."""
        return [asked[0] for asked in self._by_prompt.values()]

    def wanted(self) -> Iterator[Wanted]:
        """Every response: the first to each prompt, then the second to each, and so on."""
        for sample in range(self.samples):
            for prompt in self.distinct:
                yield Wanted(prompt, sample)

    def asked_as(self, prompt: Prompt) -> list[Prompt]:
        """The prompt in each of its subsets, with the gold that it has there."""
        return self._by_prompt[prompt.prompt_id]

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Each prompt in each of its subsets: id and subset."""
        return [
            (prompt.prompt_id, asked.subset) for prompt in self.distinct for asked in self.asked_as(prompt)
        ]

    def rows(self) -> list[tuple[str, str, int]]:
        """All that a table has, as `AnswerStore` keys it."""
        return [(prompt, subset, sample) for prompt, subset in self.asked for sample in range(self.samples)]

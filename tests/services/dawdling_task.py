"""A user's task that holds its worker up between a chunk's last outcome and the word that it has ended."""

import time
from collections.abc import Callable

from rlad_core.tasks.base import Prompt, Verdict
from services.verifier.checking import worker


class Dawdling:
    """A response of digits takes so many milliseconds; behind it the process dawdles."""

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        return []

    def failed(self, gold: str) -> Verdict:
        return self.verify("", gold)

    def verify(self, response: str, gold: str) -> Verdict:
        if response.isdigit():
            time.sleep(int(response) / 1000)
            worker._address_space = _later(worker._address_space)
        return Verdict(1.0, {}, True, "")


def _later(asked: Callable[[], int]) -> Callable[[], int]:
    """The same after a while; the next time at once."""

    def answer() -> int:
        worker._address_space = asked
        time.sleep(0.3)
        return asked()

    return answer

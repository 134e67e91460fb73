"""A user's task that holds its worker up between a chunk's last outcome and the word that it has ended."""

import time
from collections.abc import Callable

from rlad_core.tasks.base import Prompt, Verdict
from services.verifier.checking import worker


class Dawdling:
    """A response "150 300" takes 150 milliseconds; behind it the process dawdles for 300."""

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        return []

    def failed(self, gold: str) -> Verdict:
        return self.verify("", gold)

    def verify(self, response: str, gold: str) -> Verdict:
        if response:
            takes, dawdles = (int(word) / 1000 for word in response.split())
            time.sleep(takes)
            worker._address_space = _later(worker._address_space, dawdles)
        return Verdict(1.0, {}, True, "")


def _later(asked: Callable[[], int], seconds: float) -> Callable[[], int]:
    """The same after a while; the next time at once."""

    def answer() -> int:
        worker._address_space = asked
        time.sleep(seconds)
        return asked()

    return answer

"""A user's task whose check takes the seconds that a response says."""

import time

from rlad_core.tasks.base import Prompt, Verdict


class Timed:
    """Whatever takes its time is right."""

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        return []

    def failed(self, gold: str) -> Verdict:
        return Verdict(0.0, {}, False, "")

    def verify(self, response: str, gold: str) -> Verdict:
        time.sleep(float(response))
        return Verdict(1.0, {}, True, "")

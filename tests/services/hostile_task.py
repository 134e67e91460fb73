"""A user's task whose check does what a response tells it to; it exists for the verifier's tests."""

import os
import time

from rlad_core.tasks.base import Prompt, Verdict


class Hostile:
    """Gold "unreadable" is refused; a check that fails gets the reward -2."""

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        return []

    def failed(self, gold: str) -> Verdict:
        return self.verify("", gold)

    def verify(self, response: str, gold: str) -> Verdict:
        if gold == "unreadable":
            raise ValueError("this is not my gold")
        if response == "hang":
            time.sleep(600)
        if response == "spin":
            while True:
                pass
        if response == "eat":
            return Verdict(float(len(bytearray(8 * 2**30))), {}, True, "ate it")
        if response == "die":
            os._exit(7)
        if response == "raise":
            raise RecursionError("too deep")
        if response.startswith("slow"):
            time.sleep(0.2)
        right = bool(response)
        return Verdict(
            1.0 if right else -2.0, {"answer": 1.0 if right else -2.0}, right, f"judged in {os.getpid()}"
        )

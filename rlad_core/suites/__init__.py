"""Published benchmarks by name: where their files are on the hub, and the prompts in those that are here.

In: names of suites, a folder with files as the hub has them. Out: prompts of the shipped tasks, a subset for
each benchmark. Downloads nothing: what is missing is named with the command that fetches it.
Called by: the command `rlad evaluate --suite`.
"""

from rlad_core.suites.catalogue import SUITES, Suite
from rlad_core.suites.prompts import SuiteError, SuitePrompts, suite_prompts

__all__ = ["SUITES", "Suite", "SuiteError", "SuitePrompts", "suite_prompts"]

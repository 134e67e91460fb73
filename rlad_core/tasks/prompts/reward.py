"""Calling a user's reward function, and taking what it returns for a verdict.

    score(response, gold, row)    or with the first one or two of these, under any names but one another's

    True, False                   reward 1 or 0, and whether it is correct
    a number                      the reward; correct from `correct_at` on
    a mapping                     reward, a number or a bool; correct, a bool, by default from the reward;
                                  its further keys are parts of the reward: numbers that are shown beside it

Scalars of numpy and torch count as numbers. Anything else is an error that names the function and its line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rlad_core.sections import code
from rlad_core.tasks.base import Verdict
from rlad_core.tasks.returned import excerpt, number, scalar

PART = "score"
"""The name of the only part where the function tells none."""
_GIVEN = ("response", "gold", "row")
_ELSEWHERE = {"solution_str": "response", "completions": "response", "ground_truth": "gold"}
"""What verl and TRL call them, whose functions get a data source or the prompts before them."""
_FORMS = "return a number, True or False, or a mapping with reward, correct and further numbers"


class RewardError(TypeError):
    """The function is none that can be called, or it returned what is no reward; says where it stands."""


class Reward:
    """A user's function, loaded when it is needed first: where prompts are made it never runs.

    Args:
        place: of the function, see `rlad_core.sections.code`.
        correct_at: the reward from which on a response counts as correct, where the function does not say.
    """

    def __init__(self, place: str, correct_at: float) -> None:
        self._place, self._correct_at = place, correct_at
        self._function: Callable[..., Any] | None = None
        self._takes = len(_GIVEN)

    def load(self) -> Callable[..., Any]:
        """Run the function's file, once.

        Raises:
            CodeError: there is no such file or function, or the file does not run.
            RewardError: it cannot be called with a response, gold and row.
        """
        if self._function is None:
            function = code.load(self._place)
            self._takes = parameters(function)
            self._function = function
        return self._function

    def __call__(self, response: str, gold: Any, row: dict[str, Any]) -> Verdict:
        """The reward of a response.

        Raises:
            RewardError: what the function returned is no reward.
            BaseException: what it raised.
        """
        function = self.load()
        returned = function(*(response, gold, row)[: self._takes])
        try:
            return self._verdict(returned)
        except ValueError as error:
            raise RewardError(f"{_name(function)} returned {error} ({_line(function)}); {_FORMS}") from error

    def _verdict(self, returned: Any) -> Verdict:
        value = scalar(returned)
        if not isinstance(value, Mapping):
            reward = _number(value, value)
            correct = value if isinstance(value, bool) else reward >= self._correct_at
            return Verdict(reward, {PART: reward}, correct, f"score: {reward:g}")
        told = {str(key): scalar(each) for key, each in value.items()}
        if "reward" not in told:
            raise ValueError(f"{excerpt(value)}, which has no reward")
        reward = _number(told["reward"], value, "reward")
        correct = told.get("correct", reward >= self._correct_at)
        if not isinstance(correct, bool):
            raise ValueError(f"{excerpt(value)}, whose correct is {excerpt(correct)}, neither True nor False")
        parts = {
            name: _number(each, value, name)
            for name, each in told.items()
            if name not in ("reward", "correct")
        }
        return Verdict(reward, parts or {PART: reward}, correct, f"score: {reward:g}")


def parameters(function: Any) -> int:
    """How many of response, gold and row a function gets.

    Raises:
        RewardError: it is no function that can be called with them, or an asynchronous one.
    """
    if not callable(function) or isinstance(function, type):
        raise RewardError(f"{excerpt(function)} is no function; write the name of one")
    name, line = _name(function), _line(function)
    plain = inspect.unwrap(function)
    called = plain if hasattr(plain, "__code__") else type(plain).__call__
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise RewardError(f"{name} is asynchronous ({line}); write def {name}, without async")
    try:
        signature = inspect.signature(function, follow_wrapped=False)
        if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in signature.parameters.values()):
            signature = inspect.signature(function)  # a decorator that passes on what it gets
    except ValueError:  # of a function in C
        return len(_GIVEN)
    kinds = inspect.Parameter
    takes, needs = 0, 0
    for each in signature.parameters.values():
        if each.kind is kinds.VAR_POSITIONAL:
            takes = len(_GIVEN)
        elif each.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD):
            meant = _ELSEWHERE.get(each.name, each.name)
            if takes < len(_GIVEN) and meant in _GIVEN and meant != _GIVEN[takes]:
                raise RewardError(
                    f"{name}{signature} would get the {_GIVEN[takes]} as its {each.name} ({line}); write "
                    f"def {name}({', '.join(_GIVEN)}), or with the first one or two of these"
                )
            takes, needs = takes + 1, needs + (each.default is kinds.empty)
        elif each.kind is kinds.KEYWORD_ONLY and each.default is kinds.empty:
            needs = len(_GIVEN) + 1
    if not takes or needs > len(_GIVEN):
        raise RewardError(
            f"{name}{signature} cannot be called ({line}); write def {name}({', '.join(_GIVEN)}), "
            "or with the first one or two of these"
        )
    return min(takes, len(_GIVEN))


def _number(value: Any, returned: Any, key: str | None = None) -> float:
    """Raises ValueError: it is no number that can be a reward; begins with what was returned."""
    try:
        return number(value)
    except ValueError as error:
        said = excerpt(returned) + (f", whose {key} is {excerpt(value)}" if key else "")
        raise ValueError(f"{said}, {error}") from error


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _line(function: Any) -> str:
    return code.defined(inspect.unwrap(function))

"""Which groups are begun, and which a step gets: a standing pool with a bound on staleness.

Policy version v is the policy after v steps; a token of version v that step s trains on has the age s - v.
The pool works for one step at a time, the one that is collected, and ahead of it as far as the bound goes:

- **Begun** are as many groups as the step still wants and as the steps up to version + max_staleness will
  want, within the slots: (max_staleness + 1) x prompts_per_step. So the first token of a group that is taken
  in its turn is at most max_staleness versions old. A slot is filled anew as soon as it is free: when its
  group was trained on and the new weights are out, or when it was dropped.
- **Taken** are finished groups, oldest first. A younger one may overtake older ones that are unfinished: so
  many at most as the window has, a share of the slots, counted from the oldest living group.
- **Slow** groups are neither dropped nor waited for. One whose first tokens are too old for the step that is
  collected steps aside, out of the slots, and another is drawn for its place; so many at most as the window
  has. It is trained on when it is finished; its tokens that are too old then have weight 0.
- **Spare** groups are begun where max_staleness is 1, since the learner's time is then just enough to sample
  a step's groups: with a new version as many as become slow a step, at least one while any do, and, where
  all but a few of a step have come, those few again. Otherwise a slow group would make its step wait for the
  first group of the next one, and that one lack it. They are beyond the slots, within the window. What is
  left over is the oldest of the next step, and may be too old there from its first token to its last.
- At the end of a stage nothing follows: its last step waits for all groups that were begun for it.

With max_staleness 0 a step draws its groups when it is asked for and waits for all of them; nothing is drawn
before the next is asked for.

The field's name for the order is windowed first-in-first-out. Where others anchor the window by position, one
group that never ends stops everybody; here it is counted in groups that are overtaken.
"""

from __future__ import annotations

from math import ceil

from rlad_core.slots import SlotLedger

_FEW = 1 / 8
"""Of a step's groups."""


class StandingPool:
    """The rules, without clocks and services.

    Args:
        ledger: states of the groups.
        prompts_per_step: groups of a step.
        max_staleness: the bound k on the age of tokens that are trained on.
        window: groups that may be overtaken at a time.
        version: newest policy version that the engines have.
    """

    def __init__(
        self, ledger: SlotLedger, *, prompts_per_step: int, max_staleness: int, window: int, version: int = 0
    ) -> None:
        self._ledger = ledger
        self._per_step = prompts_per_step
        self._bound = max_staleness
        self._window = window
        self.version = version
        self._step = self._last = version
        self._wanted = 0
        self._begun_at = version
        """The version at which groups were begun last."""
        self._spares, self._spares_until = 0, version
        """Groups that are kept spare, and with which version the last of them if no more become slow."""
        self._begun_with: dict[int, int] = {}
        """Of every group that is not taken, the version that its first tokens may have."""

    def ask(self, step: int, count: int, last: int) -> None:
        """Collect for this step from now on.

        Args:
            step: not before the one that was asked for last.
            count: groups that it wants, beside those that it has.
            last: step of its stage.

        Raises:
            RuntimeError: the request before is not satisfied.
        """
        if self._wanted or step < self._step:
            raise RuntimeError(
                f"step {step} asks for groups, and step {self._step} still waits for {self._wanted}"
            )
        self._step, self._wanted, self._last = step, count, last

    def begin(self) -> list[int]:
        """Positions to work on from now on; they are `in_flight`."""
        untaken, overdue = len(self._begun_with), self._overdue
        aside = min(len(overdue), self._window)
        if self._step > self.version + self._bound:
            return []
        # Strictly on-policy not even where the next version is out: it may be evaluated first.
        ahead = min(self.version + self._bound, self._last) - self._step if self._bound else 0
        newer, self._begun_at = self.version > self._begun_at, self.version
        beyond = min(aside + (self._spare(overdue, ahead) if newer else 0), self._window)
        count = min(
            self._wanted + ahead * self._per_step - untaken + beyond,
            # What the stage has no place for is not begun, so a slow group's substitute is not either.
            self._wanted + (self._last - self._step) * self._per_step - untaken,
            self._ledger.free + beyond,
        )
        if count <= 0:
            return []
        drawn = self._ledger.draw(count, beyond=beyond)
        for position in drawn:
            self._ledger.advance(position, "in_flight")
            self._begun_with[position] = self.version
        return drawn

    def finish(self, position: int) -> None:
        """The group is sampled, scored and judged."""
        self._ledger.advance(position, "finished")

    def take(self) -> list[int]:
        """Finished groups that the step gets now, oldest first; they are `taken`."""
        taken: list[int] = []
        overtaken = 0
        for position in sorted(self._begun_with):
            if len(taken) == self._wanted or overtaken > self._window:
                break
            if self._ledger.alive[position] == "finished":
                taken.append(position)
            else:
                overtaken += 1
        for position in taken:
            self._ledger.advance(position, "taken")
            del self._begun_with[position]
        self._wanted -= len(taken)
        return taken

    @property
    def missing(self) -> int:
        """Groups that the step still wants."""
        return self._wanted

    def _spare(self, overdue: list[int], ahead: int) -> int:
        """Groups to begin with a new version beside those that are wanted.

        Args:
            overdue: groups that have become slow.
            ahead: steps behind this one that groups may be begun for.
        """
        if self._bound != 1:
            return 0
        if overdue:
            steps = self._step - self._bound - min(self._begun_with[position] for position in overdue)
            a_step = len(overdue) / steps
            self._spares, self._spares_until = ceil(a_step), self.version + ceil(1 / a_step)
        elif self.version > self._spares_until:
            self._spares = 0
        if ahead and self._wanted:
            # The step waits with its version out: for some that are slow, or since rollouts are the slower
            # side. Then what is spare would only get old.
            return self._wanted + self._spares if self._wanted <= self._per_step * _FEW else 0
        return self._spares

    @property
    def _overdue(self) -> list[int]:
        """Unfinished groups whose first tokens the step could not train on."""
        oldest, states = self._step - self._bound, self._ledger.alive
        return [
            position
            for position, version in self._begun_with.items()
            if version < oldest and states[position] == "in_flight"
        ]

"""`Math` with its algebra loaded: what a pool of worker processes should import before it forks them.

Loading takes seconds, more than the time limit of a check should be, and a pool starts a worker for each one
that it had to kill.
"""

from rlad_core.tasks.math.task import Math
from rlad_core.tasks.math.verifier import warm_up

__all__ = ["Math"]

warm_up()

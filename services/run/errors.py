"""Why a run does not start or does not finish, for the person who started it."""


class RunError(Exception):
    """The run failed on the way: exit code 1."""


class RefusedError(RunError):
    """The run does not start, and no engine was started: exit code 2."""

"""How a learner says that its numbers are not finite, in a module that whoever reads of it can import."""


class DivergedError(FloatingPointError):
    """The numbers of an update are not finite: the same run, carried out again, would come to the same."""

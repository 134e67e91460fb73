"""How much a request is, with what is told of it, against what one may be."""

from rlad_core.client.details import HIDDEN_BYTES, Details
from rlad_core.client.forms import TeacherLimits


def check_size(
    sequences: int, tokens: int, scored: int, details: Details, hidden_size: int, limits: TeacherLimits
) -> None:
    """Refuse what is more than a request, or a job, may be.

    Args:
        tokens: of prompts and responses together.
        scored: of responses, of which the details are told.
        hidden_size: numbers of a hidden state.

    Raises:
        LimitError: says which limit and how much.
    """
    limits.check(sequences, tokens, scored * details.told_per_token)
    if details.hidden:
        limits.check_hidden(scored * hidden_size * HIDDEN_BYTES[details.hidden])

"""Which tokens end a run's responses, and which teacher is asked about them."""

import re

import pytest

from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.sft import SFT
from rlad_core.objectives.trrd import TRRD
from services.clients.teachers import Compared, MismatchError
from services.experience.ends import EndTokens

TELLS = Compared((2,), (), tells_end_tokens=True)


def test_a_base_student_and_a_chat_teacher_have_one_outcome() -> None:
    ends = EndTokens((1,), said=False)
    assert ends.stop == (1,)
    ends.add("teacher", TELLS, [TRRD()])
    assert ends.stop == ends.outcome == (1, 2)
    assert ends.asked_of("teacher", TRRD()) == (1, 2)
    # Neither where the term leaves them out, nor where there is no term or no teacher.
    assert ends.asked_of("teacher", TRRD(mask_end_token=True)) == ()
    assert ends.asked_of("teacher", GRPO()) == ends.asked_of("teacher", SFT(source="teacher")) == ()
    assert ends.asked_of(None, TRRD()) == ()


def test_the_recipe_says_where_responses_end() -> None:
    ends = EndTokens((1,), said=True)
    ends.add("teacher", TELLS, [TRRD()])
    assert ends.stop == (1,)
    assert ends.asked_of("teacher", TRRD()) == (1, 2)


def test_a_single_end_token_needs_no_question() -> None:
    ends = EndTokens((2,), said=False)
    ends.add("teacher", TELLS, [TRRD()])
    assert ends.asked_of("teacher", TRRD()) == ()


def test_a_teacher_that_cannot_tell_is_refused_where_it_matters() -> None:
    silent = Compared((2,))
    with pytest.raises(MismatchError, match="Write mask_end_token: true in the objective, or engine: torch"):
        EndTokens((1,), said=False).add("teacher", silent, [GRPO(), TRRD()])
    ends = EndTokens((1,), said=False)
    ends.add("teacher", silent, [TRRD(mask_end_token=True), SFT(source="teacher")])
    assert ends.stop == (1, 2)
    # The same end tokens, and what is not known, are taken as they are: the sampled token is compared.
    for same in (Compared((1, 2)), Compared()):
        ends = EndTokens((1, 2), said=False)
        ends.add("teacher", same, [TRRD()])
        assert ends.asked_of("teacher", TRRD()) == ()


@pytest.mark.parametrize("order", [("silent", "tells"), ("tells", "silent")])
@pytest.mark.parametrize("policy", [(1,), (1, 2)])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_teacher_that_cannot_tell_is_refused_beside_one_that_ends_otherwise(
    is_known: bool, policy: tuple[int, ...], order: tuple[str, str]
) -> None:
    """It ends as the policy does, or nobody knows; a step with rows of both would be compared at the sampled
    tokens, and one of the other's rows alone not.
    """
    teachers = {"silent": Compared(policy if is_known else ()), "tells": TELLS}
    ends = EndTokens(policy, said=False)
    first, second = order
    ends.add(first, teachers[first], [TRRD()])
    said = re.escape(f"tells ends with [2] and the policy with {list(policy)}, and silent does not tell")
    with pytest.raises(MismatchError, match=f"^{said}.* mask_end_token: true .*engine: torch for silent$"):
        ends.add(second, teachers[second], [GRPO(), TRRD()])
    masked = EndTokens(policy, said=False)
    for place in order:
        masked.add(place, teachers[place], [TRRD(mask_end_token=True)])
    assert masked.stop == (1, 2)


@pytest.mark.parametrize("silent", [Compared(), Compared((1, 2))])
def test_beside_a_teacher_that_cannot_tell_no_other_is_asked(silent: Compared) -> None:
    """A step's rows are all compared alike, whichever teachers they are of."""
    ends = EndTokens((1, 2), said=False)
    ends.add("tells", Compared((1, 2), tells_end_tokens=True), [TRRD()])
    assert ends.asked_of("tells", TRRD()) == (1, 2)
    ends.add("silent", silent, [TRRD()])
    assert ends.asked_of("tells", TRRD()) == ends.asked_of("silent", TRRD()) == ()

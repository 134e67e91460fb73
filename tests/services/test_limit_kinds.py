"""Whoever looks at refusals sees what was too much: limits of different things have different kinds."""

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from rlad_core.client.errors import LimitError
from rlad_core.client.forms import TeacherLimits
from rlad_core.client.rollout_forms import RolloutLimits
from rlad_core.metric_specs import LimitKind
from rlad_core.metrics import SERVICE_LIMITS
from services.rollout.openai.repeated import refuse_repeated
from services.serve.http.json_forms import to_form
from services.serve.http.queries import MOST_BYTES, long_query
from services.serve.http.texts import refuse_over


class Anything(msgspec.Struct):
    """A body."""


@pytest.mark.parametrize(
    ("refuse", "kind"),
    [
        (lambda: refuse_over("sequences", 2, 1, "prompts"), "sequences"),
        (lambda: TeacherLimits(max_sequences_per_request=1).check(2, 0), "sequences"),
        (lambda: TeacherLimits(max_tokens_per_request=1).check(1, 2), "tokens"),
        (lambda: RolloutLimits(max_tokens_per_request=1).check_tokens(2), "tokens"),
        (lambda: TeacherLimits(max_hidden_bytes=1).check_hidden(2), "hidden_states"),
        (lambda: to_form(b'[{"a": {}}]', Anything, 1), "objects"),
        (lambda: refuse_repeated([b"[1,2]"], 2, RolloutLimits(max_body_bytes=9)), "repeated"),
    ],
)
def test_a_refusal_has_the_kind_of_what_was_too_much(refuse: Callable[[], Any], kind: LimitKind) -> None:
    with pytest.raises(LimitError) as refused:
        refuse()
    assert refused.value.limit == kind


def test_a_query_that_is_too_long_is_over_a_limit() -> None:
    refused = long_query({"query_string": b"a" * (MOST_BYTES + 1)})
    assert refused is not None
    assert refused.limit == "query"


def test_the_metric_names_every_kind() -> None:
    assert all(kind in SERVICE_LIMITS.help for kind in get_args(LimitKind))

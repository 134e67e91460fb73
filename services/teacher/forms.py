"""What may be asked of the teacher over HTTP in JSON."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from pydantic import BaseModel, ConfigDict, Field

from rlad_core.client.details import Details, HiddenDtype
from services.serve.http import query_values
from services.serve.http.json_forms import ListsOfTokenIds, TokenIds, Whole, needs, one_of
from services.serve.http.streams import InBatches
from services.serve.http.texts import PromptIn, check_one_given
from services.teacher.shared_prompts import PROMPTS, SharedPrompt

MOST_END_TOKENS = 1024
"""Read of a request; how many are told is a limit of the service."""
_END_TOKENS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**31},
    "maxItems": MOST_END_TOKENS,
    "uniqueItems": True,
}


class SequenceIn(PromptIn, forbid_unknown_fields=True, kw_only=True):
    """One response to score after its prompt: each as token ids, or as text that the service tokenizes."""

    prompt_id: (
        Annotated[
            str, Meta(min_length=1, description="In place of a prompt: one of the request's `prompts`.")
        ]
        | UnsetType
    ) = UNSET
    response_token_ids: Annotated[Raw, TokenIds] | UnsetType = UNSET
    response: (
        Annotated[
            str,
            Meta(
                min_length=1,
                description="Text as it is; write the end token where it should count. Behind messages it may"
                " repeat what the chat template has opened of the turn, such as <think>, which is left out.",
            ),
        ]
        | UnsetType
    ) = UNSET

    named_token_ids: (
        Annotated[
            Raw,
            Meta(
                extra_json_schema=ListsOfTokenIds,
                description="For each response token tokens whose log-probs are wanted, everywhere so many; "
                "with response_token_ids.",
            ),
        ]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        check_one_given(self, *PROMPTS, "prompt_id")
        check_one_given(self, "response_token_ids", "response")
        if self.named_token_ids is not UNSET and self.response_token_ids is UNSET:
            raise ValueError("named_token_ids: give response_token_ids, whose places they are named for")


_ALTERNATIVES = one_of((*PROMPTS, "prompt_id"), ("response_token_ids", "response"))
_ALTERNATIVES["allOf"].append(needs("named_token_ids", "response_token_ids"))


class ScoreSettings(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is asked about responses."""

    model: (
        Annotated[str, Meta(description="Refused with 404 where it is not the one that is served.")]
        | UnsetType
    ) = UNSET
    # Those that the query may tell too are unset where they are not given, see `asked_for`.
    top_k: (
        Annotated[Whole, Meta(description="Also tell the k likeliest tokens at each place; by default none.")]
        | UnsetType
    ) = UNSET
    entropy: (
        Annotated[bool, Meta(description="Also tell the entropy at each place, in nats.")] | UnsetType
    ) = UNSET
    end_token_ids: (
        Annotated[
            Raw,
            Meta(
                extra_json_schema=_END_TOKENS,
                description="Also tell the probability of these together at each place, as a log.",
            ),
        ]
        | UnsetType
    ) = UNSET
    details: (
        Annotated[
            Literal["hidden"] | list[Literal["hidden"]],
            Meta(description="hidden: also the hidden state after the final norm at each place."),
        ]
        | UnsetType
    ) = UNSET
    hidden_dtype: (
        Annotated[
            HiddenDtype, Meta(description="Precision in which hidden states are told; by default float32.")
        ]
        | UnsetType
    ) = UNSET
    plain: (
        Annotated[
            bool,
            Meta(
                description="Compute it another way than usual, each sequence by itself, to compare the two; "
                "with no details but end_token_ids."
            ),
        ]
        | UnsetType
    ) = UNSET
    tokens: Annotated[
        bool,
        Meta(
            description="Also tell the string of each response token, and where it is: in the response as it "
            "was sent, or in what token ids decode to."
        ),
    ] = False


class ScoreRequest(ScoreSettings, forbid_unknown_fields=True, kw_only=True):
    """Responses to score."""

    prompts: Annotated[
        list[Annotated[SharedPrompt, Meta(extra_json_schema=one_of(PROMPTS))]],
        Meta(description="Of groups; a sequence names its own by `prompt_id`."),
    ] = []
    sequences: Annotated[
        list[Annotated[SequenceIn, Meta(extra_json_schema=_ALTERNATIVES)]], Meta(min_length=1)
    ]


class UnreadRequest(ScoreSettings, forbid_unknown_fields=True, kw_only=True):
    """A `ScoreRequest` whose lists are bytes as yet, see `services.serve.http.elements`."""

    prompts: Raw = Raw(b"[]")
    sequences: Raw


EXAMPLE: dict[str, Any] = {
    "sequences": [
        {"id": "a", "prompt_token_ids": [11, 12, 13], "response_token_ids": [14, 15]},
        {"id": "b", "messages": [{"role": "user", "content": "Hi"}], "response": "Hello"},
    ]
}

_AS_IN_JSON = "As in the JSON body; the way to ask with Arrow."


class DetailsQuery(BaseModel):
    """What else is told, by query parameters."""

    model_config = ConfigDict(extra="ignore")

    top_k: query_values.Whole = Field(default=0, ge=0, lt=2**31, description=_AS_IN_JSON)
    entropy: query_values.Flag = Field(default=False, description=_AS_IN_JSON)
    end_token_ids: list[Annotated[int, Field(ge=0, lt=2**31), query_values.AS_WHOLE]] = Field(
        default=[],
        max_length=MOST_END_TOKENS,
        description=_AS_IN_JSON,
        json_schema_extra={"uniqueItems": True},
    )
    details: list[Literal["hidden"]] = Field(default=[], description=_AS_IN_JSON)
    hidden_dtype: HiddenDtype = Field(default="float32", description=_AS_IN_JSON)
    plain: query_values.Flag = Field(default=False, description=_AS_IN_JSON)

    @property
    def asked(self) -> Details:
        """What it comes to."""
        hidden = self.hidden_dtype if "hidden" in self.details else None
        return Details(self.top_k, self.entropy, tuple(self.end_token_ids), hidden, plain=self.plain)


class ScoreQuery(DetailsQuery, InBatches):
    """Query parameters of ``POST /v1/score``."""

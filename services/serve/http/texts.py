"""Text in requests: what may stand for token ids, and how it becomes some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.serve.http.problems import ProblemError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class Message(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(extra="forbid")

    role: str = Field(min_length=1)
    content: str


class PromptIn(BaseModel):
    """A prompt: token ids, or text that the service tokenizes."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(
        default=None, min_length=1, description="Yours; by default its place, '0', '1', ..."
    )
    prompt_token_ids: list[TokenId] | None = Field(default=None, min_length=1)
    prompt: str | None = Field(
        default=None, min_length=1, description="Text as it is, special tokens included; no template."
    )
    messages: list[Message] | None = Field(
        default=None, min_length=1, description="A chat, put through the model's chat template."
    )

    def prompt_tokens(self, tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
        """The prompt's token ids.

        Args:
            where: its place in the request, for the error.

        Raises:
            ProblemError: 422, the chat template refuses the messages, or no token comes of it.
        """
        if self.prompt_token_ids is not None:
            return self.prompt_token_ids
        if self.messages is None:
            return tokenized(str(self.prompt), tokenizer, f"{where}.prompt")
        chat = [message.model_dump() for message in self.messages]
        try:
            text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program of its own, and raises what it likes
            raise _invalid(f"{where}.messages: {error}") from error
        return tokenized(str(text), tokenizer, f"{where}.messages")


def tokenized(text: str, tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
    """The token ids of a text, with no special token added.

    Raises:
        ProblemError: 422, there are none.
    """
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise _invalid(f"{where}: the text has no token")
    return ids


def check_one_given(model: BaseModel, *names: str) -> None:
    """Exactly one of the fields is set.

    Raises:
        ValueError: names those that are.
    """
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        raise ValueError(f"give one of {', '.join(names)}, not {' and '.join(given) or 'none'}")


def _invalid(detail: str) -> ProblemError:
    return ProblemError(422, "The request cannot be worked on", detail)

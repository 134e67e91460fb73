"""How a chat becomes the text that the policy reads: one way for training, evaluation, probes and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, str]]

_NO_VARIABLES: Final = frozenset(
    (
        *("self", "conversation", "messages", "chat_template", "add_generation_prompt", "tokenize"),
        *("continue_final_message", "padding", "truncation", "max_length", "return_tensors", "return_dict"),
        *("return_assistant_tokens_mask", "tokenizer_kwargs"),
    )
)
"""What transformers takes for itself, so that no template sees it, and what we say ourselves."""


@dataclass(frozen=True)
class ChatFormat:
    """A chat template and what it is given besides the messages.

    Attributes:
        template: Jinja text; None: the tokenizer's own.
        options: variables of the template, such as ``enable_thinking``.
    """

    template: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def text(self, tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
        """The prompt with the template's generation prompt.

        Raises:
            Exception: what the template raises, which may refuse a chat.
        """
        rendered = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            chat_template=self.template,
            add_generation_prompt=True,
            tokenize=False,
            **self.options,
        )
        return str(rendered)

    def ids(self, tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
        """The tokens of `text`, none added."""
        found: list[int] = tokenizer(self.text(tokenizer, messages), add_special_tokens=False)["input_ids"]
        return found

    def is_there(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Whether there is a template at all."""
        return bool(self.read_with(tokenizer))

    def read_with(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """The template's text; None: there is none.

        A tokenizer may have several by name (Command R, Hermes): chats without tools are read with `default`.
        """
        if self.template is not None:
            return self.template
        own: Any = getattr(tokenizer, "chat_template", None)
        template: str | None = own.get("default") if isinstance(own, Mapping) else own
        return template


def template_variables(given: dict[str, Any]) -> dict[str, Any]:
    """Variables that a template can be given.

    Raises:
        ValueError: one never reaches it; names it.
    """
    if taken := sorted(given.keys() & _NO_VARIABLES):
        raise ValueError(
            f"has {taken[0]}, which is no variable of the template but a setting of the call that renders "
            "it, and we make that. Leave it out"
        )
    return given


OWN = ChatFormat()
"""The tokenizer's own template, with its defaults."""

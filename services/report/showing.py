"""Responses on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from services.report.colours import CERTAIN, LEGEND, colour
from services.report.responses import ReadResponse, TokenText

_GOLD = 200
"""Characters of a gold that are shown."""
_CONTROL = {
    **{code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"},
    127: "␡",
    # Also one character long, and some terminals obey them: the first half of an escape sequence is 0x9b.
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
}


def visible(text: str) -> str:
    """A text whose control characters are pictures of themselves: a model may write what moves a cursor."""
    return text.translate(_CONTROL)


def show(console: Console, response: ReadResponse) -> None:
    """One response: which, how it was judged, prompt, response; its tokens coloured where they are known."""
    mark = Text(response.mark, "bold green" if response.correct else "bold red")
    head = Text.assemble(
        mark,
        f"  {visible(response.verdict)}\n",
        (f"reward {response.reward:g}", "bold"),
        f"  {_parts(response)}",
    )
    facts = [
        response.extent,
        *([f"advantage {response.advantage:+.2f}"] if response.advantage is not None else []),
        *([f"gold {visible(response.gold)[:_GOLD]}"] if response.gold else []),
    ]
    head.append("\n" + "  ".join(facts), "dim")
    asked = response.prompt.strip() or "(only its tokens are kept)"
    parts: list[Text] = [head, _titled("prompt", Text(visible(asked)))]
    for title, body in _bodies(response):
        parts.append(_titled(title, body))
    title = f"{response.source} · {response.subset} · prompt {response.prompt_id} · sample {response.sample}"
    console.print(Panel(Group(*parts), title=Text(title), title_align="left"))


def legend() -> Text:
    """What the colours mean."""
    text = Text("probability of a token: 1 ", "dim")
    for probability, background in LEGEND:
        text.append(f" {probability} ", f"#000000 on {background}")
    return text


def _bodies(response: ReadResponse) -> list[tuple[str, Text]]:
    if response.tokens is None:
        return [("response", Text(visible(response.opened + response.response)))]
    shown = [("response, by the policy", _coloured(response, lambda token: token.policy))]
    if any(token.teacher is not None for token in response.tokens):
        shown.append(("response, by the teacher", _coloured(response, lambda token: token.teacher)))
    return shown


def _coloured(response: ReadResponse, value: Callable[[TokenText], float | None]) -> Text:
    text = Text(visible(response.opened))
    tokens: Sequence[TokenText] = response.tokens or ()
    for token in tokens:
        logprob = value(token)
        plain = logprob is None or logprob >= CERTAIN
        text.append(
            visible(token.text), None if plain or logprob is None else f"#000000 on {colour(logprob)}"
        )
    return text


def _titled(title: str, body: Text) -> Text:
    return Text.assemble((f"\n{title}\n", "bold dim"), body)


def _parts(response: ReadResponse) -> str:
    return "  ".join(f"{name} {value:g}" for name, value in response.parts.items())

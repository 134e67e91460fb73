"""Responses as a person reads them: texts, verdict, reward parts, and log-probs beside the tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlad_core.config import parse, resolve_model
from services.report.answers import TRAINING, Kept, is_judged

Tokens = Callable[[Sequence[int]], list[str]]
"""The text that each of some token ids adds."""


@dataclass(frozen=True)
class TokenText:
    """A token of a response: what it adds, and how likely it was, as natural logs; None: not known."""

    text: str
    policy: float | None
    teacher: float | None


@dataclass(frozen=True)
class ReadResponse:
    """One response.

    Attributes:
        source: where it is from, for people.
        prompt_id, subset, sample: which it is.
        prompt: as the model read it; "" where only its token ids are kept and nobody can decode them.
        gold: what it was judged by; "" for training.
        opened: what the prompt had written of the model's turn.
        response: the text.
        tokens: None where there are no log-probs, or no tokenizer to tell their texts.
        length: in tokens; None: the model's server did not tell.
        correct, fault, verdict: how it was judged, in a word and in words.
        reward, parts: what training saw of it.
        cut_off: by the length limit; None: the model's server did not tell.
        advantage: of a response that was trained on.
    """

    source: str
    prompt_id: str
    subset: str
    sample: int
    prompt: str
    gold: str
    opened: str
    response: str
    tokens: list[TokenText] | None
    length: int | None
    correct: bool
    fault: str
    verdict: str
    reward: float
    parts: dict[str, float]
    cut_off: bool | None
    advantage: float | None

    @property
    def mark(self) -> str:
        """How it was judged, in the fewest words."""
        if self.correct:
            return "right"
        return "cut off" if self.cut_off else "wrong"

    @property
    def extent(self) -> str:
        """Its length, and whether that is all of it, for people."""
        length = "length not told" if self.length is None else f"{self.length} tokens"
        return length + (", end not told" if self.cut_off is None else ", cut off" if self.cut_off else "")


@dataclass(frozen=True)
class Filter:
    """Which responses are wanted.

    wrong: only those that are not right. prompt: the beginning of a prompt's id. subset, fault: "" for any.
    """

    wrong: bool = False
    prompt: str = ""
    subset: str = ""
    fault: str = ""

    def takes(self, row: dict[str, Any]) -> bool:
        """Whether a row of ANSWERS or EXPERIENCE is wanted."""
        return (
            not (self.wrong and row["correct"])
            and row["prompt_id"].startswith(self.prompt)
            and self.subset in ("", row["subset"])
            and self.fault in ("", row.get("fault") or "")
        )


def responses_of(kept: Kept, wanted: Filter, tokens: Tokens | None) -> Iterator[ReadResponse]:
    """The responses that are wanted, prompt by prompt in the order of the file.

    Of a step on worked solutions there are none.

    Raises:
        SchemaError: a file is broken; names it.
    """
    table = kept.read()
    if not is_judged(table):
        return
    columns = ["prompt_id", "subset", "correct", *(["fault"] if "fault" in table.column_names else [])]
    rows = [place for place, row in enumerate(table.select(columns).to_pylist()) if wanted.takes(row)]
    for place in rows:
        yield _read(table.slice(place, 1).to_pylist()[0], kept, tokens)


def _read(row: dict[str, Any], kept: Kept, tokens: Tokens | None) -> ReadResponse:
    ids = row.get("response_token_ids")
    prompt = row.get("prompt", "")
    if not prompt and tokens and row.get("prompt_token_ids"):
        prompt = "".join(tokens(row["prompt_token_ids"]))
    sampled = row.get("rollout_logprobs") is not None
    return ReadResponse(
        source=kept.label,
        prompt_id=row["prompt_id"],
        subset=row["subset"],
        sample=row["sample_index"],
        prompt=prompt,
        gold="" if kept.when == TRAINING else row["gold"],
        opened=row.get("opened", ""),
        response=row["response"],
        tokens=_token_texts(row, tokens(ids)) if tokens and ids and sampled else None,
        length=len(ids) if ids is not None else row["tokens"],
        correct=row["correct"],
        fault=row.get("fault", ""),
        verdict=row["verdict"],
        reward=row["reward"],
        parts=dict(row["reward_parts"]),
        cut_off=None if row["finish_reason"] is None else row["finish_reason"] == "length",
        advantage=row.get("advantage"),
    )


def _token_texts(row: dict[str, Any], texts: list[str]) -> list[TokenText]:
    count = len(texts)
    policy = row["rollout_logprobs"]
    teacher = row.get("teacher_logprobs") or [None] * count
    return [TokenText(*each) for each in zip(texts, policy, teacher, strict=True)]


def token_texts(folder: Path) -> tuple[Tokens | None, str]:
    """How the tokens of a run or an evaluation become texts; None and the reason where they can't.

    The tokenizer is that of the export, of the policy, or of the model that was evaluated, read from its
    tokenizer.json alone.
    """
    try:
        from tokenizers import Tokenizer
        from tokenizers.decoders import DecodeStream
    except ImportError:
        return None, "tokens are not shown: pip install tokenizers, which reads a model's tokenizer.json"
    for model in _models(folder):
        file = Path(model) / "tokenizer.json"
        if file.is_file():
            break
    else:
        return None, "tokens are not shown: the model's folder with its tokenizer.json is not here"
    tokenizer = Tokenizer.from_file(str(file))

    def texts(ids: Sequence[int]) -> list[str]:
        stream = DecodeStream(skip_special_tokens=False)
        # A token that ends within a character adds nothing; the one that completes it adds all of it.
        return [stream.step(tokenizer, each) or "" for each in ids]

    return texts, ""


def _models(folder: Path) -> Iterator[str]:
    yield str(folder / "export")
    for file, keys in (("recipe.yaml", ("policy", "model")), ("settings.json", ("model",))):
        if not (folder / file).is_file():
            continue
        try:
            text = (folder / file).read_text(encoding="utf-8")
            value = json.loads(text) if file.endswith(".json") else parse(text)
        except (OSError, ValueError, yaml.YAMLError):
            continue  # whoever reads it for its own sake says so
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            try:
                yield resolve_model(value)
            except ValueError:
                continue

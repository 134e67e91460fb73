"""A model in this cluster, asked by the handle of its rollout service."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rlad_core.evaluation import PER_TOKEN
from rlad_core.schema import to_responses
from services.clients.responses import Responses
from services.evaluate.respondents.interface import Answer, Respondent, Sampling, Wanted
from services.rollout.settings import SamplingSettings


class DeployedModel(Respondent):
    """Asked after `begin`.

    Args:
        prompts: PROMPTS of all that is asked, each prompt once.
        sampling: with `max_tokens`.
        identity: see `folder_identity`.
        version: of the policy that is to answer.
        stop_token_ids: end its responses; none: what its own files name.
    """

    part = 8

    def __init__(
        self,
        prompts: pa.Table,
        sampling: Sampling,
        *,
        identity: dict[str, Any] | None = None,
        version: int = 0,
        stop_token_ids: tuple[int, ...] = (),
    ) -> None:
        self._prompts = prompts
        self._place = {prompt: row for row, prompt in enumerate(prompts.column("prompt_id").to_pylist())}
        self._texts = prompts.column("prompt")
        self._identity = identity or {}
        self._version = version
        assert sampling.max_tokens is not None
        self._sampling = SamplingSettings(
            group_size=1,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            stop_token_ids=stop_token_ids,
            training=False,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """See `Respondent.identity`."""
        return self._identity

    def begin(self, services: Responses, *, in_flight: int) -> None:
        """The services are up.

        Args:
            in_flight: responses that the engines work on at a time.
        """
        self._services = services
        # Twice what the engines work on, so that none waits for us.
        self.at_most = max(2, 2 * in_flight // self.part)

    async def answer(self, wanted: Sequence[Wanted]) -> list[Answer]:
        """See `Respondent.answer`; after `begin`."""
        places = [self._place[each.prompt.prompt_id] for each in wanted]
        groups = self._prompts.take(pa.array(places, pa.int64()))
        groups = groups.append_column("group_id", pa.array([each.name for each in wanted]))
        rollouts = await self._services.sample(groups, self._sampling, self._version)
        turns = to_responses(rollouts, self._prompts).column("response").to_pylist()
        columns = {name: rollouts.column(name).to_pylist() for name in ("response", "finish_reason")}
        values = {name: rollouts.column(name) for name in PER_TOKEN if name in rollouts.column_names}
        return [
            Answer(
                prompt=self._texts[place].as_py(),
                response=columns["response"][row],
                opened=turns[row].removesuffix(columns["response"][row]),
                finish_reason=columns["finish_reason"][row],
                tokens=len(values["response_token_ids"][row]),
                values={name: np.asarray(column[row].values) for name, column in values.items()},
            )
            for row, place in enumerate(places)
        ]


def folder_identity(folder: str) -> dict[str, Any]:
    """What tells one model from another: of a folder its small files, and its weights' names, sizes, times.

    A hub id stands for itself: which revision of it is meant is not looked up.
    """
    path = Path(folder)
    if not path.is_dir():
        return {"model": folder}
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()):
        if file.suffix in (".json", ".jinja", ".model", ".txt"):
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
        elif file.suffix in (".safetensors", ".bin"):
            state = file.stat()
            digest.update(f"{file.name}\0{state.st_size}\0{state.st_mtime_ns}".encode())
    return {"model": str(path.resolve()), "files": digest.hexdigest()}

"""vLLM as the policy: samples groups of responses, and takes new weights in place.

Wraps ``AsyncLLM``, whose engine core is a process of its own. What this room knows of vLLM's types is
here, in `adapter_engine` and in `holding`; `services.rollout.service` sees numpy arrays and plain values.
"""

import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import numpy as np
from vllm.config import WeightTransferConfig
from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.envs import enable_envs_cache
from vllm.exceptions import VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from rlad_core.client.errors import InvalidRequestError
from services.rollout.settings import SamplingSettings
from services.rollout.tables import SampledResponse
from services.rollout.writing import Wish, Written, token_of
from services.vllm.ended import told_as_lost
from services.vllm.metrics import stat_loggers
from services.vllm.padding import padding
from services.vllm.sleeping import Sleeper
from services.vllm.weight_hashes import WEIGHTS


class PolicyEngine:
    """A running engine and the version of the policy it holds.

    Args:
        engine_args: vLLM's own; the weight transfer and what it depends on are set here.
        transfer: name of the weight-transfer backend.
        tokens: rows of the model's head that are tokens (`rlad_core.language_model.vocabulary`); the others
            are never sampled, and have no part in log-probs.
    """

    def __init__(self, engine_args: dict[str, Any], transfer: str, tokens: int) -> None:
        self._engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                **engine_args,
                weight_transfer_config=WeightTransferConfig(backend=transfer),
                # Before temperature, top-p and top-k: the distribution that every objective speaks of.
                logprobs_mode="raw_logprobs",
                additional_config=padding(tokens),
                worker_extension_cls=WEIGHTS,
            ),
            stat_loggers=stat_loggers("rollout"),
        )
        # vLLM does so in the engine's process alone; here it reads a variable for each token that comes back.
        enable_envs_cache()
        self._sleeper = Sleeper(self._engine)
        self._adapter: LoRARequest | None = None
        """That every request is answered with."""

    async def label(self, version: int) -> None:
        """Say which version the loaded weights are, for the tokens sampled from now on."""
        await self._engine.update_weight_version(str(version))

    async def sample(
        self, prompt_token_ids: np.ndarray, sampling: SamplingSettings, seed: int | None, top_tokens: int = 0
    ) -> list[SampledResponse]:
        """Sample the ``sampling.group_size`` responses of one prompt. Cancelling the call frees their slots.

        Args:
            prompt_token_ids: int32 [P].
            sampling: all but its seed.
            seed: of the first response; the next ones get the next seeds. None: the engine's own.
            top_tokens: tell so many of the likeliest tokens at each place.

        Raises:
            InvalidRequestError: vLLM does not take it.
            EngineLostError: the engine's process has ended.
            RuntimeError: vLLM ended a response for another reason than its end token or its length.
        """
        prompt = {"prompt_token_ids": prompt_token_ids.tolist()}
        final: RequestOutput | None = None
        with _told_as_ours("sampled"):
            async for output in self._engine.generate(
                prompt,
                _sampling_params(sampling, seed, top_tokens),
                request_id=uuid.uuid4().hex,
                lora_request=self._adapter,
            ):
                final = output
        if final is None:
            raise RuntimeError("vLLM ended a request without an answer")
        return [_response(completion, top_tokens) for completion in final.outputs]

    async def write(self, wish: Wish, *, in_pieces: bool) -> AsyncGenerator[Written, None]:
        """Answers as text. Leaving it early frees their slots.

        Args:
            in_pieces: as they are written; else each once it is whole.

        Raises:
            InvalidRequestError: vLLM does not take it.
            EngineLostError: the engine's process has ended.
        """
        prompt = {"prompt_token_ids": wish.prompt.tolist()}
        with _told_as_ours("wrote"):
            outputs = self._engine.generate(
                prompt,
                _text_params(wish, in_pieces),
                request_id=uuid.uuid4().hex,
                lora_request=self._adapter,
            )
            async with aclosing(outputs):
                async for output in outputs:
                    for completion in output.outputs:
                        yield _written(completion, wish)

    async def init_transfer(self, init_info: dict[str, Any]) -> None:
        """Connect the workers to the learner (backends that push).

        Raises:
            EngineLostError: the engine's process has ended; as `begin_update`, `receive` and `end_update`.
        """
        with told_as_lost("joined the learner's transfer group"):
            await self._engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info=init_info))

    async def begin_update(self) -> None:
        """Hold generation and open the weights.

        Running requests are kept and go on after `end_update`, token by token with the new weights: their
        keys and values are computed again, and cached prefixes are dropped.
        """
        with told_as_lost("opened its weights"):
            await self._engine.pause_generation(mode="keep", clear_cache=True)
            await self._engine.start_weight_update()

    async def receive(self, update_info: dict[str, Any]) -> None:
        """Load what ``update_info`` describes into the opened weights.

        Args:
            update_info: what the transfer backend wants to know, see `services.weights.transfer`.
        """
        with told_as_lost("took new weights"):
            await self._engine.update_weights(WeightTransferUpdateRequest(update_info=update_info))

    async def end_update(self, version: int) -> None:
        """Close the weights under their new version and go on generating."""
        with told_as_lost("closed its weights"):
            await self._engine.finish_weight_update(str(version))
            await self._engine.resume_generation()

    async def sleep(self) -> None:
        """Give the GPU to another process, see `Sleeper.sleep`."""
        await self._sleeper.sleep()

    async def wake(self) -> None:
        """Take it again, see `Sleeper.wake`."""
        await self._sleeper.wake()

    async def check_health(self) -> None:
        """Ask the engine core, not only this process.

        Raises:
            vllm.v1.engine.exceptions.EngineDeadError: it has ended.
        """
        await self._engine.check_health()
        # The check above reads a flag; this one makes a round trip to the engine's process.
        await self._engine.get_weight_version()

    def unfinished(self) -> int:
        """Responses being generated or waiting for it."""
        return self._engine.output_processor.get_num_unfinished_requests()

    def shutdown(self) -> None:
        """End the engine's processes."""
        self._engine.shutdown()


@contextmanager
def _told_as_ours(doing: str) -> Iterator[None]:
    """What vLLM says of a request, or of its own end, as services say it."""
    try:
        with told_as_lost(doing):
            yield
    except VLLMClientError as error:
        raise InvalidRequestError(f"vLLM does not take the request: {error}") from error


def _sampling_params(sampling: SamplingSettings, seed: int | None, top_tokens: int) -> SamplingParams:
    """Nothing is detokenized, and only the log-probs of sampled tokens, and of likely ones, return."""
    return SamplingParams(
        n=sampling.group_size,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        seed=seed,
        # vLLM adds the model's own end tokens unless they are to be ignored.
        stop_token_ids=list(sampling.stop_token_ids) or None,
        ignore_eos=bool(sampling.stop_token_ids),
        logprobs=top_tokens,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _text_params(wish: Wish, in_pieces: bool) -> SamplingParams:
    return SamplingParams(
        n=wish.count,
        temperature=wish.temperature,
        top_p=wish.top_p,
        max_tokens=wish.max_tokens,
        seed=wish.first_seed,
        stop=list(wish.stop),
        logprobs=wish.top_logprobs,
        flat_logprobs=True,
        output_kind=RequestOutputKind.DELTA if in_pieces else RequestOutputKind.FINAL_ONLY,
    )


def _written(completion: CompletionOutput, wish: Wish) -> Written:
    if completion.finish_reason not in (None, "stop", "length"):
        raise RuntimeError(f"vLLM ended an answer with {completion.finish_reason!r}")
    flat = completion.logprobs
    tokens = [
        token_of(
            token_id,
            [*zip(*(each[start:stop] for each in (flat.ranks, flat.token_ids, flat.logprobs)), strict=True)],
            wish.top_logprobs,
        )
        for token_id, start, stop in zip(
            completion.token_ids, flat.start_indices, flat.end_indices, strict=True
        )
    ]
    return Written(completion.index, completion.text, tokens, completion.finish_reason)


def _response(completion: CompletionOutput, top_tokens: int) -> SampledResponse:
    if completion.finish_reason not in ("stop", "length"):
        raise RuntimeError(
            f"vLLM ended response {completion.index} with {completion.finish_reason!r} after "
            f"{len(completion.token_ids)} tokens; expected 'stop' or 'length'"
        )
    token_ids = np.asarray(completion.token_ids, dtype=np.int32)
    flat = completion.logprobs
    # There is exactly one entry a position, the sampled token's, and then the likeliest ones.
    shape = (-1, 1 + top_tokens)
    ids = np.asarray(flat.token_ids, dtype=np.int32).reshape(shape)
    if not np.array_equal(ids[:, 0], token_ids):
        raise RuntimeError(f"vLLM's log-probs do not belong to the tokens of response {completion.index}")
    values = {
        "response_token_ids": token_ids,
        # Natural logs under the untruncated distribution at temperature 1.
        "rollout_logprobs": np.asarray(flat.logprobs, dtype=np.float32).reshape(shape)[:, 0],
        "policy_versions": _versions(completion, len(token_ids)),
    }
    if top_tokens:
        values["rollout_top_token_ids"] = ids[:, 1:]
    return SampledResponse(values, completion.finish_reason)


def _versions(completion: CompletionOutput, num_tokens: int) -> np.ndarray:
    """Spread vLLM's (version, start, end) spans over the tokens: int32 [num_tokens]."""
    spans = completion.weight_versions or []
    lengths = [span.end - span.start for span in spans]
    if sum(lengths) != num_tokens:
        raise RuntimeError(
            f"vLLM reports policy versions for {sum(lengths)} of the {num_tokens} tokens of response "
            f"{completion.index}"
        )
    return np.repeat(np.asarray([int(span.version) for span in spans], dtype=np.int32), lengths)

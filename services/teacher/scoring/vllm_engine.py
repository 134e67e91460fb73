"""The vllm engine: log-probs of prompt tokens from vLLM's AsyncLLM, for models that want its parallelism or
its quantisation.

A sequence is sent as a prompt, and the one token that vLLM insists on generating is thrown away. There are
two ways to ask, with the same answer:

==============  ==========================  ===============================================================
model runner    asked with                  what it costs
==============  ==========================  ===============================================================
V2 (GPUs)       `prompt_logprob_token_ids`  the response's rows alone reach the LM head, in small chunks
V1 (CPUs, ...)  `prompt_logprobs=0`         all rows, and about 6 bytes x tokens x vocabulary at a time,
                                            which vLLM's memory profile knows nothing of
==============  ==========================  ===============================================================

Who wants the likeliest tokens or ranks too is answered the second way on either. Entropy would take the
log-probs of the whole vocabulary out of the engine's process; it is not told.
"""

import os
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import AutoConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from rlad_core.waiting import all_of, limit
from services.serve.lost_engine import EngineLostError
from services.serve.weight_digests import UnsoundWeightsError
from services.teacher.scoring.interface import Scored, ScoringError, TokenPair
from services.teacher.scoring.progress import Progress
from services.vllm.metrics import stat_loggers
from services.vllm.padding import padding
from services.vllm.sleeping import Sleeper
from services.vllm.weight_hashes import WEIGHTS, together

_BYTES_PER_LOGIT = 6
_SMALLEST_STEP = 256
_PROBE_TIMEOUT_S = 60.0


class VllmEngine:
    """A `ScoringEngine` around ``AsyncLLM``, whose engine core is a process of its own.

    Args:
        model: folder or hub id.
        dtype: "float32" or "bfloat16".
        max_model_len: longest sequence.
        max_tokens_per_step: tokens of one engine step, cut further where logits would not fit.
        logits_memory_bytes: memory that the log-probs of one step may take.
        max_top_k: the largest `Details.top_k` that will be asked for.
        tokens: rows of its head that are tokens (`rlad_core.language_model.vocabulary`).
        patience_s: how long it may work without an answer before it counts as hanging.
        engine_args: further arguments of vLLM's AsyncEngineArgs.
    """

    # vLLM does not look at cached prefixes for requests that want prompt log-probs.
    shares_prompts = False
    tells = frozenset({"top_k", "plain"})
    # So that the scheduler always has a full step's worth waiting.
    batches_in_flight = 4
    passes_per_batch = 1

    def __init__(
        self,
        model: str,
        *,
        dtype: str,
        max_model_len: int,
        max_tokens_per_step: int,
        logits_memory_bytes: int,
        max_top_k: int,
        tokens: int,
        patience_s: float = 600.0,
        **engine_args: Any,
    ) -> None:
        self._progress = Progress(patience_s)
        text_config = AutoConfig.from_pretrained(model).get_text_config()
        positions = int(text_config.max_position_embeddings)
        self.max_model_len = max_model_len
        self.vocab_size = tokens
        self.hidden_size = int(text_config.hidden_size)
        if self.max_model_len >= positions:
            # vLLM counts the generated token too. It is never fed back, so no position beyond the model's
            # range is computed, and the longest sequence can be scored as well.
            os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
        settings = {
            "model": model,
            "dtype": dtype,
            "max_model_len": self.max_model_len + 1,
            "max_num_batched_tokens": max_tokens_per_step,
            "enable_prefix_caching": False,
            "skip_tokenizer_init": True,
            "logprobs_mode": "raw_logprobs",
            "max_logprobs": max_top_k,
            "disable_log_stats": True,
            "additional_config": padding(tokens),
            "worker_extension_cls": WEIGHTS,
            **engine_args,
        }
        config = AsyncEngineArgs(**settings).create_engine_config()
        self._scores_token_ids: bool = config.use_v2_model_runner
        if not self._scores_token_ids:
            rows = int(text_config.vocab_size)
            affordable = max(_SMALLEST_STEP, logits_memory_bytes // (_BYTES_PER_LOGIT * rows))
            settings["max_num_batched_tokens"] = min(max_tokens_per_step, affordable)
            config = AsyncEngineArgs(**settings).create_engine_config()
        self._engine = AsyncLLM.from_vllm_config(config, stat_loggers=stat_loggers("teacher"))
        self._sleeper = Sleeper(self._engine)
        self._fault: Exception | None = None

    async def score(self, batch: Sequence[TokenPair]) -> list[Scored]:
        """See `ScoringEngine`. Cancelling the call aborts its requests inside vLLM."""
        try:
            return await all_of(self._awaited(pair) for pair in batch)
        except EngineDeadError as error:
            raise EngineLostError("the vLLM engine has ended while it scored; its log says why") from error
        except Exception as error:
            raise ScoringError(f"vLLM failed on a batch of {len(batch)} responses: {error!r}") from error

    async def weights(self) -> str:
        """See `ScoringEngine`; of each process's part of the model. On CPUs vLLM keeps most matrices in a
        form of its own, which is no parameter: the hash is of the others.
        """
        try:
            async with limit(_PROBE_TIMEOUT_S, "vLLM to hash its weights"):
                return together(await self._engine.collective_rpc("rlad_weights"))
        except EngineDeadError as error:
            raise EngineLostError("the vLLM engine has ended; its log says why") from error

    async def check_health(self) -> None:
        """Score one token, which goes through the engine's process; unless that is at work and gets on, since
        the token would wait behind all that it has.
        """
        await self._engine.check_health()
        if self._fault is not None:
            raise self._fault
        if self.asleep or self._progress.is_made:
            return
        token = np.zeros(1, dtype=np.int32)
        async with limit(_PROBE_TIMEOUT_S, "vLLM to score a single token"):
            await self._score(TokenPair(token, token))
        self._progress.answered()

    @property
    def asleep(self) -> bool:
        """See `SleepingEngine`."""
        return self._sleeper.asleep

    async def sleep(self) -> None:
        """See `SleepingEngine`."""
        await self._sleeper.sleep()

    async def wake(self) -> None:
        """See `SleepingEngine`."""
        try:
            await self._sleeper.wake()
        except UnsoundWeightsError as error:
            self._fault = error
            raise

    def shutdown(self) -> None:
        """End the engine's processes."""
        self._engine.shutdown()

    async def _awaited(self, pair: TokenPair) -> Scored:
        with self._progress.awaited():
            return await self._score(pair)

    async def _score(self, pair: TokenPair) -> Scored:
        ids = np.concatenate([pair.prompt, pair.response])
        final: RequestOutput | None = None
        async for output in self._engine.generate(
            {"prompt_token_ids": ids.tolist()}, self._params(pair), request_id=uuid.uuid4().hex
        ):
            final = output
        if final is None:
            raise EngineDeadError
        if self._by_token_id(pair):
            logprobs = np.asarray(final.prompt_token_id_logprobs, dtype=np.float32)[:, 0]
            scored = Scored({"teacher_logprobs": logprobs})
        else:
            scored = _from_flat(final.prompt_logprobs, pair)
        if (found := scored.values["teacher_logprobs"]).shape != pair.response.shape:
            raise ScoringError(f"vLLM answered {found.size} log-probs for {pair.response.size} tokens")
        return scored

    def _by_token_id(self, pair: TokenPair) -> bool:
        # What is plain goes through the softmax of the whole vocabulary.
        wants_more = pair.details.top_k or pair.ranks or pair.details.plain
        return self._scores_token_ids and not wants_more

    def _params(self, pair: TokenPair) -> SamplingParams:
        # Given to the constructor, which derives from them that cached prefixes are not to be read.
        what: dict[str, Any] = (
            {"prompt_logprob_token_ids": pair.response[:, None], "prompt_logprob_start": pair.prompt.size - 1}
            if self._by_token_id(pair)
            else {"prompt_logprobs": pair.details.top_k, "flat_logprobs": True}
        )
        return SamplingParams(
            max_tokens=1, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY, **what
        )


def _from_flat(flat: Any, pair: TokenPair) -> Scored:
    """The response's part of vLLM's FlatLogprobs of a prompt: for the first token nothing, and for each token
    after it its own entry and then the k likeliest ones.
    """
    k, before = pair.details.top_k, pair.prompt.size - 1
    shape = (-1, k + 1)
    logprobs = np.asarray(flat.logprobs, dtype=np.float32).reshape(shape)[before:]
    values: dict[str, np.ndarray] = {"teacher_logprobs": logprobs[:, 0]}
    if k:
        ids = np.asarray(flat.token_ids, dtype=np.int32).reshape(shape)[before:]
        values |= {"top_token_ids": ids[:, 1:], "top_logprobs": logprobs[:, 1:]}
    if pair.ranks:
        values["ranks"] = np.asarray(flat.ranks, dtype=np.int64).reshape(shape)[before:, 0]
    return Scored(values)

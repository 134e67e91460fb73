"""The torch engine: one packed forward pass of a transformers model, and nothing of a generation engine.

Prompts are shared inside a batch (`services.teacher.scoring.packing`), and the LM head sees the response
tokens' rows alone, in chunks (`rlad_core.logprobs`). One thread packs and others compute, so that the event
loop stays free and a batch is packed while those before it are in a pass.

What a small model computes is over too soon to be shared among threads, which would wait for each other after
each product. So each of its CPU threads computes passes of its own.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import accumulate, groupby, pairwise
from threading import get_ident
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rlad_core.client.details import NO_DETAILS, Details
from rlad_core.language_model.head import OutputHead
from rlad_core.language_model.loading import load_causal_lm
from rlad_core.language_model.plain_forward import (
    compare_with_plain,
    plain_logprobs,
    probe_pairs,
    unpacked_logprobs,
)
from rlad_core.language_model.weight_hash import weight_hash
from rlad_core.norms import lean_norms
from services.teacher.scoring.attention import ATTENTION, laid_out
from services.teacher.scoring.interface import Scored, ScoringError, TokenIds, TokenPair
from services.teacher.scoring.on_cpu import keep_freed_memory, lean_mlps
from services.teacher.scoring.packing import Packed, pack_sharing_prompts
from services.teacher.scoring.sleeping import SleepingWeights
from services.teacher.scoring.turns import Turns

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_ADVICE = "write engine: vllm"
_PROBE_TIMEOUT_S = 60.0
_SMALL = 32_000_000
"""Parameters of a model whose passes gain more from standing side by side than from several threads each."""


class TorchEngine:
    """A `ScoringEngine` around ``AutoModelForCausalLM``.

    Args:
        model: folder or hub id.
        dtype: "float32" or "bfloat16"; logits and log-probs are float32 in either.
        max_model_len: longest sequence.
        logits_memory_bytes: memory that logits may take at a time.
        threads: CPU threads to compute with.
        tokens: rows of its head that are tokens (`rlad_core.language_model.vocabulary`); None: all.
        patience_s: how long one may take before the engine counts as hanging.

    Raises:
        ValueError: the model's architecture is not one that packing works for, or its weights are not whole.
    """

    shares_prompts = True
    tells = frozenset({"top_k", "entropy", "end_token_ids", "named_token_ids", "hidden", "plain"})

    def __init__(
        self,
        model: str,
        *,
        dtype: str,
        max_model_len: int,
        logits_memory_bytes: int,
        threads: int,
        tokens: int | None = None,
        patience_s: float = 600.0,
    ) -> None:
        self._patience_s = patience_s
        self._began = dict[int, float]()  # the passes that are running, by thread
        self._given = set[Future[list[Scored]]]()
        self._awake = asyncio.Event()
        self._awake.set()
        self._moving = asyncio.Lock()  # whoever asks again is answered when the weights have moved
        self._fault: Exception | None = None
        self._packing = ThreadPoolExecutor(1, "packing")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.max_model_len = max_model_len
        self._model = self._load(model, DTYPES[dtype])
        on_cpu, passes = self._device.type == "cpu", 1
        if on_cpu and self._model.num_parameters() <= _SMALL:
            passes, threads = threads, 1
        # A CPU computes a part as fast as the whole, whose activations leave its caches.
        self.passes_per_batch = max(passes, 4 if on_cpu else 2)
        # Those in a pass and one that is packed meanwhile.
        self.batches_in_flight = passes + 1
        self._turns = Turns()
        # The number of threads is a property of the calling thread, so it is set where the work is done.
        self._passes = ThreadPoolExecutor(
            passes, "scoring", initializer=torch.set_num_threads, initargs=(threads,)
        )
        logits_memory_bytes //= passes
        try:
            self._weights = SleepingWeights(self._model, self._device)
            self._head = OutputHead(self._model, tokens)
            self.vocab_size = self._head.tokens
            self.hidden_size = int(self._model.config.get_text_config().hidden_size)
            self._chunk_size = max(1, min(1024, logits_memory_bytes // (4 * self._head.rows)))
            self._passes.submit(self._compare_with_plain_forward).result()
        except BaseException:
            self.shutdown()
            raise

    async def score(self, batch: Sequence[TokenPair]) -> list[Scored]:
        """See `ScoringEngine`."""
        loop = asyncio.get_running_loop()
        try:
            together = [pair for pair in batch if not pair.details.plain]
            packed = None
            if together:
                packed = await loop.run_in_executor(self._packing, pack_sharing_prompts, together)
            await self._awake.wait()
            work = self._passes.submit(self._work_on, packed, batch)
            self._given.add(work)
            work.add_done_callback(self._given.discard)
            return await asyncio.wrap_future(work)
        except RuntimeError as error:
            tokens = sum(pair.length for pair in batch)
            raise ScoringError(
                f"the forward pass over {len(batch)} responses, {tokens} tokens, failed: {error}"
            ) from error

    async def weights(self) -> str:
        """See `ScoringEngine`."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._passes, weight_hash, self._model)
        except RuntimeError as error:
            raise ScoringError(f"the weights cannot be hashed: {error}") from error

    async def check_health(self) -> None:
        """Score one token, unless passes are running, none of which is too old: on CPUs one can take minutes.
        While it sleeps there is nothing to score with.
        """
        if self._fault is not None:
            raise self._fault
        if self.asleep:
            return
        if began := list(self._began.values()):
            lasts = time.monotonic() - min(began)
            if lasts > self._patience_s + _PROBE_TIMEOUT_S:
                raise TimeoutError(f"a pass of the torch engine has not ended for {lasts:.0f} s")
            return
        token = np.zeros(1, dtype=np.int32)
        # Not as a batch of `score`: a probe that hangs is not to count as work.
        probe = asyncio.get_running_loop().run_in_executor(
            self._passes, self._scored, [TokenPair(token, token)]
        )
        try:
            await asyncio.wait_for(probe, _PROBE_TIMEOUT_S)
        except TimeoutError as error:
            raise TimeoutError(
                f"the torch engine scored no single token within {_PROBE_TIMEOUT_S:.0f} s"
            ) from error

    @property
    def asleep(self) -> bool:
        """See `SleepingEngine`."""
        return not self._awake.is_set()

    async def sleep(self) -> None:
        """See `SleepingEngine`: after the passes that are running."""
        async with self._moving:
            if not self.asleep:
                self._awake.clear()
                await asyncio.to_thread(wait, list(self._given))
                await asyncio.get_running_loop().run_in_executor(self._passes, self._weights.sleep)

    async def wake(self) -> None:
        """See `SleepingEngine`."""
        async with self._moving:
            if self.asleep:
                try:
                    await asyncio.get_running_loop().run_in_executor(self._passes, self._weights.wake)
                except Exception as error:
                    self._fault = error
                    raise
                self._awake.set()

    def shutdown(self) -> None:
        """See `ScoringEngine`."""
        for threads in (self._packing, self._passes):
            threads.shutdown(wait=False, cancel_futures=True)

    def _work_on(self, packed: Packed | None, batch: Sequence[TokenPair]) -> list[Scored]:
        # In the thread: a pass goes on when its callers have given up, and that is where it would hang.
        self._began[get_ident()] = time.monotonic()
        try:
            together = [pair for pair in batch if not pair.details.plain]
            told = iter(self._forward(packed, together) if packed else [])
            return [self._alone(pair) if pair.details.plain else next(told) for pair in batch]
        finally:
            del self._began[get_ident()]

    @torch.inference_mode()
    def _alone(self, pair: TokenPair) -> Scored:
        """By the model's own forward pass: no packing, no shared prompt, no attention of ours. It has another
        one while it lasts, which a pass beside it would take for its own.
        """
        with self._turns.alone():
            logprobs, ends = unpacked_logprobs(
                self._model,
                (pair.prompt, pair.response),
                self._head,
                chunk_size=self._chunk_size,
                end_token_ids=pair.details.end_token_ids,
            )
        told = {"teacher_logprobs": logprobs.cpu().numpy()}
        if ends is not None:
            told["teacher_end_logprobs"] = ends.cpu().numpy()
        return Scored(told)

    def _scored(self, batch: Sequence[TokenPair]) -> list[Scored]:
        return self._forward(pack_sharing_prompts(batch), batch)

    @torch.inference_mode()
    def _forward(self, packed: Packed, batch: Sequence[TokenPair]) -> list[Scored]:
        with self._turns.shared():
            hidden = self._model.base_model(
                input_ids=packed.input_ids.to(self._device)[None],
                position_ids=packed.position_ids.to(self._device)[None],
                use_cache=False,
                **laid_out(packed.layout, self._device, self._model.dtype),
            ).last_hidden_state[0][packed.predictor_index.to(self._device)]
        targets = packed.targets.to(self._device)
        scored, end = list[Scored](), 0
        for (details, ranks), same in groupby(batch, key=lambda pair: (pair.details, pair.ranks)):
            pairs = list(same)
            sizes = [pair.response.size for pair in pairs]
            rows = slice(end, end := end + sum(sizes))
            named = [pair.named for pair in pairs if pair.named is not None]
            told = self._told(hidden[rows], targets[rows], details, ranks, named)
            bounds = [0, *accumulate(sizes)]
            scored += [
                Scored({name: numbers[start:stop] for name, numbers in told.items()})
                for start, stop in pairwise(bounds)
            ]
        return scored

    def _told(
        self,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        details: Details,
        ranks: bool,
        named: Sequence[TokenIds],
    ) -> dict[str, npt.NDArray[Any]]:
        """What is wanted about each of these places, by column."""
        if details == NO_DETAILS and not ranks:
            logprobs, _ = self._head.logprobs(hidden, targets, chunk_size=self._chunk_size)
            return {"teacher_logprobs": logprobs.cpu().numpy()}
        ends = torch.tensor(details.end_token_ids, device=self._device) if details.end_token_ids else None
        told = self._head.details(
            hidden,
            targets,
            chunk_size=self._chunk_size,
            top_k=details.top_k,
            entropy=details.entropy,
            end_ids=ends,
            ranks=ranks,
            named_ids=torch.from_numpy(np.concatenate(named)).long().to(self._device) if named else None,
        )
        if "top_token_ids" in told:
            told["top_token_ids"] = told["top_token_ids"].int()
        if details.hidden == "float32":
            told["hidden_states"] = hidden.float()
        elif details.hidden == "bfloat16":
            told["hidden_states_bfloat16"] = hidden.bfloat16().view(torch.uint16)
        return {name: values.cpu().numpy() for name, values in told.items()}

    def _load(self, model: str, dtype: torch.dtype) -> Any:
        loaded: Any = load_causal_lm(
            model, dtype=dtype, attention=ATTENTION, max_length=self.max_model_len, advice=_ADVICE
        )
        if self._device.type == "cpu":
            lean_norms(loaded)
            lean_mlps(loaded)
            keep_freed_memory()
        return loaded.requires_grad_(False).to(self._device)

    @torch.inference_mode()
    def _compare_with_plain_forward(self) -> None:
        pairs = probe_pairs(self.vocab_size)

        def packed() -> torch.Tensor:
            scored = self._scored([TokenPair(prompt, response) for prompt, response in pairs])
            return torch.from_numpy(np.concatenate([each.values["teacher_logprobs"] for each in scored]))

        def plain() -> torch.Tensor:
            return plain_logprobs(self._model, pairs, self.vocab_size).cpu()

        compare_with_plain(packed, plain, self._model.dtype, self._model, _ADVICE)

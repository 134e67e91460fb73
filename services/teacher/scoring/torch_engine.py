"""The torch engine: one packed forward pass of a transformers model, and nothing of a generation engine.

Prompts are shared inside a batch (`services.teacher.scoring.packing`), and the LM head sees the response
tokens' rows alone, in chunks (`rlad_core.logprobs`). One thread owns the model, so the event loop stays free.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from rlad_core.logprobs import token_logprobs, top_logprobs
from services.teacher.scoring.interface import Scored, ScoringError, TokenPair
from services.teacher.scoring.packing import ATTENTION, pack_sharing_prompts

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Largest difference between the packed pass and the model's own that rounding explains.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25}
_PROBE_TIMEOUT_S = 60.0


class TorchEngine:
    """A `ScoringEngine` around ``AutoModelForCausalLM``.

    Args:
        model: folder or hub id.
        dtype: "float32" or "bfloat16"; logits and log-probs are float32 in either.
        max_model_len: longest sequence.
        logits_memory_bytes: memory that logits may take at a time.
        threads: CPU threads of a forward pass.
        patience_s: how long one may take before the engine counts as hanging.

    Raises:
        ValueError: the model's architecture is not one that packing works for.
    """

    shares_prompts = True
    tells_entropy = True
    batches_in_flight = 1

    def __init__(
        self,
        model: str,
        *,
        dtype: str,
        max_model_len: int,
        logits_memory_bytes: int,
        threads: int,
        patience_s: float = 600.0,
    ) -> None:
        self._patience_s = patience_s
        self._began: float | None = None  # the pass that is running
        # The number of threads is a property of the calling thread, so it is set where the work is done.
        self._thread = ThreadPoolExecutor(
            1, "scoring", initializer=torch.set_num_threads, initargs=(threads,)
        )
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = self._thread.submit(_load, model, DTYPES[dtype], self._device).result()
        head = self._model.get_output_embeddings().weight
        self.vocab_size = int(head.shape[0])
        self.max_model_len = max_model_len
        self._chunk_size = max(1, min(1024, logits_memory_bytes // (4 * self.vocab_size)))
        try:
            self._thread.submit(self._compare_with_plain_forward).result()
        except BaseException:
            self.shutdown()
            raise

    async def score(self, batch: Sequence[TokenPair]) -> list[Scored]:
        """See `ScoringEngine`."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._work_on, batch)
        except RuntimeError as error:
            tokens = sum(pair.length for pair in batch)
            raise ScoringError(
                f"the forward pass over {len(batch)} responses, {tokens} tokens, failed: {error}"
            ) from error

    async def check_health(self) -> None:
        """Score one token, unless a pass is running that is not too old: on CPUs one can take minutes."""
        began = self._began
        if began is not None and time.monotonic() - began < self._patience_s:
            return
        token = np.zeros(1, dtype=np.int32)
        # Not as a batch of `score`: a probe that hangs is not to count as work.
        probe = asyncio.get_running_loop().run_in_executor(
            self._thread, self._forward, [TokenPair(token, token)]
        )
        try:
            await asyncio.wait_for(probe, _PROBE_TIMEOUT_S)
        except TimeoutError as error:
            raise TimeoutError(
                f"the torch engine scored no single token within {_PROBE_TIMEOUT_S:.0f} s"
            ) from error

    def shutdown(self) -> None:
        """See `ScoringEngine`."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _work_on(self, batch: Sequence[TokenPair]) -> list[Scored]:
        # In the thread: a pass goes on when its callers have given up, and that is where it would hang.
        self._began = time.monotonic()
        try:
            return self._forward(batch)
        finally:
            self._began = None

    @torch.inference_mode()
    def _forward(self, batch: Sequence[TokenPair]) -> list[Scored]:
        packed = pack_sharing_prompts(batch)
        hidden = self._model.base_model(
            input_ids=packed.input_ids.to(self._device)[None],
            position_ids=packed.position_ids.to(self._device)[None],
            use_cache=False,
            spans=packed.spans,
        ).last_hidden_state[0][packed.predictor_index.to(self._device)]
        head = self._model.get_output_embeddings().weight
        logprobs, entropy = token_logprobs(
            hidden,
            head,
            packed.targets.to(self._device),
            chunk_size=self._chunk_size,
            with_entropy=any(pair.details.entropy for pair in batch),
        )
        told = {"teacher_logprobs": logprobs.cpu().numpy()}
        if entropy is not None:
            told["entropy"] = entropy.cpu().numpy()
        scored, end = [], 0
        for pair in batch:
            rows = slice(end, end := end + pair.response.size)
            values = {name: numbers[rows] for name, numbers in told.items()}
            if k := pair.details.top_k:
                ids, top = top_logprobs(hidden[rows], head, k, chunk_size=self._chunk_size)
                values |= {"top_token_ids": ids.int().cpu().numpy(), "top_logprobs": top.cpu().numpy()}
            scored.append(Scored(values))
        return scored

    @torch.inference_mode()
    def _compare_with_plain_forward(self) -> None:
        """Refuse a model that does more than packing reproduces (scaled logits, other attention, ...)."""
        ids = np.random.default_rng(0).integers(self.vocab_size, size=(3, 6), dtype=np.int32)
        prompt = ids[0]
        batch = [TokenPair(prompt, ids[1]), TokenPair(prompt, ids[2]), TokenPair(ids[2], ids[0])]
        packed = torch.from_numpy(
            np.concatenate([scored.values["teacher_logprobs"] for scored in self._forward(batch)])
        )
        self._model.set_attn_implementation("sdpa")
        plain = torch.cat([self._plain(pair) for pair in batch])
        self._model.set_attn_implementation(ATTENTION)
        difference = float((packed - plain).abs().max())
        if not difference <= _TOLERANCE[self._model.dtype]:
            raise ValueError(
                f"log-probs of {type(self._model).__name__} differ by {difference:.3g} between a packed and "
                "a plain forward pass, so the torch engine cannot score this architecture; write engine: vllm"
            )

    def _plain(self, pair: TokenPair) -> Tensor:
        ids = torch.from_numpy(np.concatenate([pair.prompt, pair.response]).astype(np.int64)).to(self._device)
        logits = self._model(input_ids=ids[None], use_cache=False).logits[0].float()
        rows = slice(pair.prompt.size - 1, -1)
        return logits.log_softmax(-1)[rows].gather(1, ids[pair.prompt.size :, None])[:, 0].cpu()


def _load(model: str, dtype: torch.dtype, device: torch.device) -> Any:
    layers = set(getattr(AutoConfig.from_pretrained(model), "layer_types", None) or ["full_attention"])
    if layers != {"full_attention"}:
        raise ValueError(
            f"{model} has layers of the types {sorted(layers)}, and the torch engine knows full attention "
            "only; write engine: vllm"
        )
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation=ATTENTION)
    return loaded.eval().requires_grad_(False).to(device)

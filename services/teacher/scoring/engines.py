"""The engine that a teacher's settings ask for. An engine's libraries are imported only when it is wanted."""

from typing import Any

from rlad_core.language_model.vocabulary import token_rows
from services.base.lengths import longest_sequence
from services.base.tokenizer import load_tokenizer
from services.teacher.scoring.interface import SleepingEngine
from services.teacher.settings import TeacherArgs


def load_engine(args: TeacherArgs, model: str) -> SleepingEngine:
    """Load `model`, a folder or hub id, into the engine of `args`. Takes from seconds to minutes.

    Raises:
        ValueError: the model cannot be served with these settings.
    """
    from transformers import AutoConfig

    max_model_len = longest_sequence(model, args.max_model_len, args.max_tokens_per_batch, args.model)
    rows = int(AutoConfig.from_pretrained(model).get_text_config().vocab_size)
    tokens = token_rows(load_tokenizer(model).get_vocab(), rows)
    logits_memory_bytes = int(args.logits_memory_gib * 2**30)
    if args.engine == "torch":
        from services.teacher.scoring.torch_engine import TorchEngine

        return TorchEngine(
            model,
            dtype=args.dtype,
            max_model_len=max_model_len,
            logits_memory_bytes=logits_memory_bytes,
            threads=args.threads,
            tokens=tokens,
            patience_s=args.limits.timeout_s,
        )
    from services.teacher.scoring.vllm_engine import VllmEngine
    from services.vllm.process import check_platform, on_cpu

    check_platform(args.num_gpus)
    device_settings: dict[str, Any] = (
        {"gpu_memory_utilization": args.gpu_memory_utilization}
        if args.num_gpus
        else on_cpu(args.kv_cache_memory_gib, args.tensor_parallel_size)
    )
    if args.pipeline_parallel_size > 1:
        # Its workers are Ray actors, in the placement group that the replica was given.
        device_settings |= {
            "pipeline_parallel_size": args.pipeline_parallel_size,
            "distributed_executor_backend": "ray",
        }
    return VllmEngine(
        model,
        dtype=args.dtype,
        max_model_len=max_model_len,
        max_tokens_per_step=args.max_tokens_per_batch,
        logits_memory_bytes=logits_memory_bytes,
        max_top_k=max(args.limits.max_top_k, 1),  # the token that completions append
        tokens=tokens,
        patience_s=args.limits.timeout_s,
        tensor_parallel_size=args.tensor_parallel_size,
        **({"enable_sleep_mode": True} if args.sleep else {}),
        **(device_settings | args.engine_args),
    )

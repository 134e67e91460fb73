"""``engine_args``: what vLLM has and a recipe has no field for, checked by vLLM's own names.

The names are read from the text of the installed vLLM, which is not imported: that would take seconds.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationInfo

from rlad_core.sections.paths import was_checked

_OURS: Final = "what is computed depends on it, and we set it"
_COMMON: Final = {
    "model": "write model",
    "tokenizer": "a model's own tokenizer is used",
    "skip_tokenizer_init": _OURS,
    "tensor_parallel_size": "write tensor_parallel_size",
    "kv_cache_memory_bytes": "write kv_cache_memory_gib",
    "gpu_memory_utilization": "write gpu_memory_utilization",
    "disable_log_stats": "we set it",
    "logprobs_mode": _OURS,
    "additional_config": _OURS,
    "worker_extension_cls": "we set it",
    "enable_sleep_mode": "write sleep",
    "weight_transfer_config": "write weights.transfer",
}
OF_ROLLOUT: Final = {
    **_COMMON,
    "dtype": "write policy.dtype",
    "max_model_len": "write policy.max_length",
    "max_num_seqs": "write max_num_seqs",
    "max_num_batched_tokens": "write max_num_batched_tokens",
    "seed": "write seed, outside of every section",
}
"""Arguments that an engine that samples has a field for, or that are not free; and what to do instead."""
OF_TEACHER: Final = {
    **_COMMON,
    "dtype": "write dtype",
    "max_model_len": "write policy.max_length",
    "max_num_batched_tokens": "write max_tokens_per_batch",
    "pipeline_parallel_size": "write pipeline_parallel_size",
    "distributed_executor_backend": "it follows from pipeline_parallel_size",
    "max_logprobs": "write limits.max_top_k of the service",
    "enable_prefix_caching": "log-probs of a cached prompt are not computed",
}
"""The same of an engine that scores."""


def checked(taken: Mapping[str, str]) -> Callable[[dict[str, Any], ValidationInfo], dict[str, Any]]:
    """A validator of ``engine_args``.

    Args:
        taken: names that are refused, and what to write instead.
    """

    def check(given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if was_checked(info):  # on another machine, perhaps with another vLLM
            return given
        for name in given:
            if name in taken:
                raise ValueError(f"has {name}, which is not passed on: {taken[name]}")
            if (known := vllm_arguments()) and name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"write {close[0]}" if close else "see `vllm serve --help=all`"
                raise ValueError(f"has {name}, which is no argument of the installed vLLM: {hint}")
        return given

    return check


@cache
def vllm_arguments() -> frozenset[str]:
    """Names of the installed vLLM's engine arguments; empty where there is none."""
    spec = find_spec("vllm")
    for place in (spec.submodule_search_locations or []) if spec else []:
        file = Path(place, "engine", "arg_utils.py")
        if file.is_file():
            classes = (
                each
                for each in ast.parse(file.read_text(encoding="utf-8")).body
                if isinstance(each, ast.ClassDef) and each.name in ("EngineArgs", "AsyncEngineArgs")
            )
            return frozenset(
                line.target.id
                for each in classes
                for line in each.body
                if isinstance(line, ast.AnnAssign)
                and isinstance(line.target, ast.Name)
                and not line.target.id.startswith("_")
            )
    return frozenset()

"""What vLLM finds around it and is told on CPUs, and what it was built for."""

from collections.abc import Mapping
from typing import Any

_ANYWHERE = {
    # Where vLLM sets up logging, it closes all handlers that there are, Serve's among them. A replica then
    # fails to tell a new controller where its log is, and is replaced.
    "VLLM_CONFIGURE_LOGGING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}
_EAGER = "enforce_eager"


def engine_environment(num_gpus: float, engine_args: Mapping[str, Any]) -> dict[str, str]:
    """Variables of a replica that has an engine, before it imports vLLM.

    Args:
        num_gpus: of the replica.
        engine_args: further arguments of the engine.
    """
    if num_gpus or not engine_args.get(_EAGER, True):
        return dict(_ANYWHERE)
    # One small function, which counts a sampled token's rank, is compiled also in an engine that is eager,
    # when the first token is sampled. That takes seconds and a C++ compiler, and without one ends the engine.
    return _ANYWHERE | {"TORCHDYNAMO_DISABLE": "1"}


def on_cpu(kv_cache_memory_gib: float, tensor_parallel_size: int) -> dict[str, Any]:
    """What vLLM is told where it computes on CPUs.

    Args:
        kv_cache_memory_gib: memory of the keys and values.
        tensor_parallel_size: processes that share the model.
    """
    settings: dict[str, Any] = {
        "kv_cache_memory_bytes": int(kv_cache_memory_gib * 2**30),
        # Compiling takes most of a minute at every start and gains nothing at the sizes that CPUs serve.
        _EAGER: True,
        # The least that vLLM's attention likes on CPUs, where its own choice is 128. It reads whole blocks,
        # and whole ones are shared, so that responses to a short prompt had nothing in common.
        "block_size": 32,
    }
    if tensor_parallel_size == 1:
        # As on GPUs, where this is "uni". On CPUs vLLM replaces that name, to bind the threads of a process
        # of its own to cores; ours are never bound, and both processes of it wait for each other by spinning.
        settings["distributed_executor_backend"] = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
    return settings


def check_platform(num_gpus: float) -> None:
    """Compare what a replica was given with what vLLM was built for.

    Raises:
        ValueError: no GPU, and a vLLM that cannot do without.
    """
    from vllm.platforms import current_platform

    if not num_gpus and not current_platform.is_cpu():
        raise ValueError(
            f"num_gpus: 0, and the vLLM that is installed computes on {current_platform.device_name}; "
            "give the service num_gpus, or install again with `python install.py --engine cpu`"
        )

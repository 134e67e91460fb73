"""From what was asked to the plan that is carried out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rlad_core.client.bearer import token_from
from rlad_core.config import ClusterConfig, assigned
from services.cli.evaluation_questions import Asking, Read
from services.cli.service_settings import setting_fault
from services.evaluate.plan import Devices, EndpointModel, EvaluationPlan, LocalModel, Model, ServedModel
from services.evaluate.questions import Questions
from services.evaluate.respondents import Sampling
from services.rollout.settings import RolloutArgs
from services.verifier.settings import VerifierArgs, VerifierLimits

_GPU_SHARE = 0.9
"""Of a GPU's memory; nothing else runs there meanwhile."""


def plan_of(
    asking: Asking,
    read: Read,
    *,
    out: Path,
    dtype: str,
    devices: Devices,
    key_env: str | None,
    concurrency: int,
    timeout_s: float,
    start_timeout_s: float,
    ks: tuple[int, ...],
) -> EvaluationPlan:
    """The plan.

    Raises:
        ValueError: an engine's setting is wrong, or there is no key where it was said to be.
    """
    token = token_from(key_env, None)
    models: list[Model] = []
    for model in asking.models:
        if model in asking.urls:
            models.append(ServedModel(model, model))
        else:
            models.append(LocalModel(model, read.recipes[model], _engine(asking, read, model, dtype)))
    models += [EndpointModel(name, asking.endpoint, name) for name in asking.names]
    return EvaluationPlan(
        models=tuple(models),
        questions=Questions(read.prompts, asking.samples, asking.part),
        sampling=Sampling(asking.temperature, asking.top_p, asking.max_response_length, asking.seed),
        verifier=VerifierArgs(
            run=read.recipe.name,
            tasks=read.judges,
            code=read.recipe.code,
            limits=VerifierLimits(max_responses_per_request=2**31, timeout_s=timeout_s),
            **read.recipe.verifier.model_dump(),
        ),
        out=out,
        cluster=ClusterConfig(start_timeout_s=start_timeout_s),
        devices=devices,
        token=token,
        concurrency=concurrency,
        timeout_s=timeout_s,
        ks=ks,
        dropped=tuple(read.dropped),
    )


def _engine(asking: Asking, read: Read, model: str, dtype: str) -> RolloutArgs:
    recipe = read.recipes[model]
    settings: dict[str, Any] = {"gpu_memory_utilization": _GPU_SHARE}
    settings = assigned(settings, asking.engine)
    if unknown := [name for name in settings if name not in RolloutArgs.model_fields]:
        raise ValueError(f"--set {unknown[0]}: an engine has {', '.join(RolloutArgs.model_fields)}")
    if of_chat := [name for name in settings if name in ("chat_template", "chat_template_kwargs")]:
        raise ValueError(
            f"--set {of_chat[0]}: prompts are made here, with the template of the model's tokenizer. Put "
            "yours into the model's folder, as chat_template.jinja, or serve the model with it (rlad serve "
            f"rollout --model {model} --set {of_chat[0]}=...) and evaluate its URL"
        )
    fixed = {
        "run": recipe.name,
        # As its recipe has it: a path is absolute there, for the processes that open it.
        "model": recipe.policy.model,
        "dtype": dtype,
        "max_model_len": recipe.policy.max_length,
        "seed": recipe.seed,
    }
    of_options = (*fixed, "num_replicas", "num_gpus", "tensor_parallel_size")
    if taken := [name for name in settings if name in of_options]:
        raise ValueError(f"--set {taken[0]}: this has an option of its own")
    try:
        return RolloutArgs.model_validate(settings | fixed)
    except ValidationError as error:
        raise ValueError(f"--set {setting_fault(error, RolloutArgs, 'engine')}") from error

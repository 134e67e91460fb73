"""Where a recipe's models are, and whether they are what the recipe expects. Reads files, starts nothing."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from rlad_core.config.evaluation_recipe import EvaluationRecipe
from rlad_core.config.model_folder import faults, settings_of
from rlad_core.config.run import RunConfig
from rlad_core.sections.paths import expanded
from rlad_core.sections.problems import Problem

_ROOT = Path(__file__).resolve().parents[2]
SHIPPED = _ROOT / "deploy" if (_ROOT / "deploy").is_dir() else _ROOT / "services" / "deploy"
"""Recipes and tiny models that come with the project: in a checkout, or as a wheel installs them."""

MODELS = "RLAD_MODELS"
"""Environment variable: a folder with models as OWNER/NAME, which hub ids then mean before the hub itself."""
UNFINISHED = ".rlad-fetch"
"""In a model's folder as long as not all of its files are there."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def resolve_model(reference: str) -> str:
    """Turn a recipe's ``model`` into what transformers and vLLM take.

    Args:
        reference: a folder, a hub id, or ``rlad:NAME``. ``tiny:...`` names no files and is refused:
            such a policy is made by `rlad_core.tasks.write_untrained`. A hub id that lies below the folder of
            the environment variable `MODELS` is that folder.

    Returns:
        The absolute path of a folder, or the hub id unchanged.

    Raises:
        ValueError: there is no such model; the message says what was looked for.
    """
    if not reference.strip():  # as a path it would be the current folder
        raise ValueError("no model is named. Write a folder, a hub id owner/name, or rlad:NAME")
    scheme, _, name = reference.partition(":")
    if scheme == "rlad" and name:
        folder = SHIPPED / "models" / name
        if (folder / "config.json").is_file():
            return str(folder)
        shipped = sorted(f"rlad:{entry.parent.name}" for entry in (SHIPPED / "models").glob("*/config.json"))
        raise ValueError(
            f"no such model ships with the project. Write one of {', '.join(shipped) or '(none)'}"
        )
    if scheme == "tiny" and name:
        raise ValueError(
            "a tiny: model has no weights yet. It is for policy.model with policy.init: random only"
        )
    folder = expanded(reference)
    of_hub = _HUB_ID.fullmatch(reference) and not reference.startswith(".")
    if not os.path.isdir(folder) and of_hub and (models := os.environ.get(MODELS)):
        folder = Path(models) / reference
        if not os.path.isdir(folder) and os.environ.get("HF_HUB_OFFLINE", "0") in (
            "1",
            "true",
            "TRUE",
            "yes",
            "on",
        ):
            raise ValueError(
                f"is not in {models} ({MODELS}), and HF_HUB_OFFLINE forbids asking the hub. Bring it there: "
                f"rlad fetch {reference} --to {shlex.quote(str(folder))}"
            )
    if os.path.isdir(folder):
        if (folder / UNFINISHED).exists():
            raise ValueError(
                f"{folder} is not whole: its fetch goes on, or broke off. Go on with rlad fetch "
                f"{shlex.quote(reference)} --to {shlex.quote(str(folder))}"
            )
        if not (folder / "config.json").is_file():
            raise ValueError(f"the folder has no config.json. {_instead_of(folder.resolve())}")
        return str(folder.resolve())
    if of_hub:
        return reference
    raise ValueError(
        f"there is no such folder ({folder.absolute()}), and it is no hub id of the form owner/name"
    )


def _instead_of(folder: Path) -> str:
    """What to write in place of a folder that holds no model."""
    if (folder / "export" / "config.json").is_file():
        return f"It is a run's; its model is in {folder / 'export'}"
    if (folder / "adapter_config.json").is_file():
        return "It holds an adapter alone. Merge it into its model (peft: merge_and_unload)"
    return f"Write a folder in Hugging Face layout ({folder})"


def is_elsewhere(config: EvaluationRecipe, reference: str) -> bool:
    """Whether a model is a path that this machine lacks, and the cluster that is joined may have."""
    joined = isinstance(config, RunConfig) and config.cluster.is_joined
    return joined and expanded(reference).is_absolute() and not os.path.exists(expanded(reference))


def place_of(config: EvaluationRecipe, reference: str) -> str:
    """As `resolve_model`, and the path itself of a folder that only the cluster has.

    Raises:
        ValueError: there is no such model.
    """
    return str(expanded(reference)) if is_elsewhere(config, reference) else resolve_model(reference)


def model_problems(config: EvaluationRecipe) -> list[Problem]:
    """What is wrong with the models a recipe names, as far as this machine can tell.

    A hub id is not looked up: only local folders are opened.
    """
    return [*_policy(config), *(_teacher(config) if isinstance(config, RunConfig) else ())]


def _policy(config: EvaluationRecipe) -> Iterator[Problem]:
    policy = config.policy
    if policy.model.startswith("tiny:"):
        if policy.model not in ("tiny:student", "tiny:teacher"):
            yield Problem("policy.model", policy.model, "is not known. Write tiny:student or tiny:teacher")
        if policy.init != "random":
            yield Problem(
                "policy.init", policy.init, f"{policy.model} has no weights to start from. Write random"
            )
        return
    reads, prefix = policy.max_length, ""
    if isinstance(config, RunConfig) and config.learner_reads > reads:
        reads, [prefix] = config.learner_reads, config.teacher_sections
    needs_weights = policy.init == "pretrained"
    yield from _folder(
        config, "policy.model", policy.model, needs_weights=needs_weights, reads=reads, teacher=prefix
    )


def _teacher(config: RunConfig) -> Iterator[Problem]:
    for place, teacher in config.served_teachers.items():
        longest = teacher.longest(config.policy.max_length)
        yield from _folder(
            config, f"{place}.model", teacher.model, needs_weights=True, reads=longest, teacher=place
        )


def _folder(
    config: EvaluationRecipe, path: str, reference: str, *, needs_weights: bool, reads: int, teacher: str
) -> Iterator[Problem]:
    """What is wrong with a folder.

    Args:
        reads: tokens of the longest sequence that it is given.
        teacher: place in the recipe of the teacher whose prefix makes it longer than the policy's.
    """
    if needs_weights and is_elsewhere(config, reference):
        return
    try:
        location = Path(resolve_model(reference))
    except ValueError as error:
        yield Problem(path, reference, str(error))
        return
    if not location.is_dir():
        return
    try:
        settings = settings_of(location)
    except ValueError as error:
        yield Problem(path, reference, str(error))
        return
    longest = settings.get("max_position_embeddings")
    if isinstance(longest, int) and reads > longest:
        said = f"{path} {reference} reads {longest} tokens at most (max_position_embeddings)"
        yield _too_long(config.policy.max_length, reads - config.policy.max_length, longest, teacher, said)
    trained = path == "policy.model" and isinstance(config, RunConfig)
    looked = faults(
        location,
        settings,
        needs_weights=needs_weights,
        trained=trained,
        max_length=reads,
    )
    for fault in looked:
        yield Problem(path, reference, fault)


def _too_long(max_length: int, prefix_tokens: int, longest: int, teacher: str, said: str) -> Problem:
    """Which setting to lower, so that policy and prefix fit into what a model reads.

    Args:
        prefix_tokens: of the teacher at this place in the recipe; 0: it has no prefix.
        longest: tokens that the model reads.
        said: that it does.
    """
    room = longest - max_length
    if prefix_tokens and room > 0:
        both = f"{said}, and policy.max_length is {max_length}. Write at most {room}, or less there"
        return Problem(f"{teacher}.prefix_tokens", prefix_tokens, both)
    if prefix_tokens:
        said = f"{said}, with its prefix ({teacher}.prefix_tokens {prefix_tokens})"
        if prefix_tokens >= longest:
            return Problem(
                "policy.max_length", max_length, f"{said}. Write {longest} at most for both together"
            )
    return Problem("policy.max_length", max_length, f"{said}. Write at most {longest - prefix_tokens}")

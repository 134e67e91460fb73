"""The comparison of teachers with the policy that needs no service: whose folders are on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rlad_core.config import RunConfig, is_elsewhere, place_of
from rlad_core.config.run import REFERENCE
from services.base.tokenizer import load_tokenizer
from services.clients.teachers.policy import (
    Compared,
    MismatchError,
    PolicyFacts,
    compare_model,
    compare_told,
)


def compare_here(config: RunConfig, policy_folder: str) -> None:
    """Compare each teacher that the run deploys, as it will be compared once it is up (`Teacher.probe`).

    Args:
        policy_folder: folder or hub id of the policy; where only the cluster has it, nothing is compared.

    Raises:
        MismatchError: one reads or writes other tokens than the policy, has no tokenizer that can be read, or
            has fewer tokens than an objective wants to be told of; names its place in the recipe.
    """
    if is_elsewhere(config, config.policy.model):
        return
    models, asked = dict(_models(config, policy_folder)), dict(_asked(config))
    if not models and not asked:
        return
    policy = PolicyFacts(load_tokenizer(policy_folder), config.policy.max_length, chat=config.policy.chat)
    # By now both have the same tokens, so that the policy's are counted.
    tokens = len(policy.tokenizer.get_vocab())
    wants = replace(policy, top_k=config.teacher_top_k, named=config.policy_top_k)
    for place, model in (models | asked).items():
        try:
            if place in models:
                compare_model(policy, place_of(config, model))
            if place in asked:
                # An engine that is told no named tokens is refused with the recipe.
                compare_told(wants, Compared(most_top_k=tokens, most_named=tokens))
        except MismatchError as error:
            raise MismatchError(f"{place} ({model}): {error}") from error
        except (OSError, ValueError, ImportError) as error:
            raise MismatchError(f"{place} ({model}): its tokenizer cannot be loaded: {error}") from error


def _models(config: RunConfig, policy_folder: str) -> Iterator[tuple[str, str]]:
    """The places and models of those whose folders are here, and are not the policy's own."""
    for place, teacher in (config.scoring_services | config.demonstrators).items():
        folder = place_of(config, teacher.model)
        if Path(folder).is_dir() and folder != policy_folder:
            yield place, teacher.model


def _asked(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Those that are asked for likely tokens, wherever their models are: no service has a lower limit."""
    if config.teacher_top_k or config.policy_top_k:
        for place, teacher in config.scoring_services.items():
            if place != REFERENCE:
                yield place, teacher.model

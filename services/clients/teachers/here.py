"""The comparison of teachers with the policy that needs no service: whose folders are on this machine."""

from __future__ import annotations

from pathlib import Path

from rlad_core.config import RunConfig, is_elsewhere, place_of
from services.base.tokenizer import load_tokenizer
from services.clients.teachers.policy import MismatchError, PolicyFacts, compare_model


def compare_here(config: RunConfig, policy_folder: str) -> None:
    """Compare each teacher that the run deploys, as it will be compared once it is up (`Teacher.probe`).

    Args:
        policy_folder: folder or hub id of the policy; where only the cluster has it, nothing is compared.

    Raises:
        MismatchError: one reads or writes other tokens than the policy, or has no tokenizer that can be read;
            names its place in the recipe.
    """
    if is_elsewhere(config, config.policy.model):
        return
    policy: PolicyFacts | None = None
    for place, teacher in (config.scoring_services | config.demonstrators).items():
        folder = place_of(config, teacher.model)
        if not Path(folder).is_dir() or folder == policy_folder:
            continue
        if policy is None:
            tokenizer = load_tokenizer(policy_folder)
            policy = PolicyFacts(tokenizer, config.policy.max_length, chat=config.policy.chat)
        try:
            compare_model(policy, folder)
        except MismatchError as error:
            raise MismatchError(f"{place} ({teacher.model}): {error}") from error
        except (OSError, ValueError, ImportError) as error:
            raise MismatchError(
                f"{place} ({teacher.model}): its tokenizer cannot be loaded: {error}"
            ) from error

"""The check of a recipe's prompts as a person sees it: progress, what is left out, the file of all of it.

In: a recipe, checked. Out: a `Checked`, whose selection the run's actors get; or a `PromptsRefusedError`.
Called by: cli, evaluate, run. What is checked is in `rlad_core.prompt_checks`.
"""

from services.prompts.checking import (
    check_here,
    files_elsewhere,
    policy_folder,
    refused,
    tell,
    write_beside,
)

__all__ = ["check_here", "files_elsewhere", "policy_folder", "refused", "tell", "write_beside"]

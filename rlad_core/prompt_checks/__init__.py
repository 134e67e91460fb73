"""All prompts of a recipe looked at before anything starts: what cannot be used, and why.

In: a recipe and its policy's tokenizer. Out: a `Checked`, or a `PromptsRefusedError`. Called by: `rlad run`,
`rlad plan --data` and `rlad evaluate`, through `services.prompts`. No run ends at a prompt then, and a
resumed one leaves out what its first start left out (`record`).
"""

from rlad_core.prompt_checks.check import check
from rlad_core.prompt_checks.findings import (
    Checked,
    Dropped,
    Progress,
    PromptsRefusedError,
    Use,
    counted,
    nothing_left,
)
from rlad_core.prompt_checks.reading import parts_of, read_parts, without_held_out
from rlad_core.prompt_checks.record import DROPPED, read_record, write_dropped, write_record

__all__ = [
    "DROPPED",
    "Checked",
    "Dropped",
    "Progress",
    "PromptsRefusedError",
    "Use",
    "check",
    "counted",
    "nothing_left",
    "parts_of",
    "read_parts",
    "read_record",
    "without_held_out",
    "write_dropped",
    "write_record",
]

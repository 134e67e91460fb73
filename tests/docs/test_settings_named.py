"""Limits that services have and settings that name them are on some page, not in the code alone."""

import pytest
from pages import ROOT

from rlad_core.client.forms import TeacherLimits
from rlad_core.client.rollout_forms import RolloutLimits
from services.verifier.settings import VerifierLimits

PAGES = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
NAMES = {name for kind in (TeacherLimits, RolloutLimits, VerifierLimits) for name in kind.model_fields}


@pytest.mark.parametrize("name", sorted(NAMES | {"served_name"}))
def test_a_page_names_it(name: str) -> None:
    assert name in PAGES

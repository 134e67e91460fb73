"""Services that one run leaves to the next are found by their settings, and replaced where those differ."""

import pytest
from ray import serve

from services.serve.deployment import deployed
from services.serve.kept import kept, taken_down
from services.verifier.service import build
from services.verifier.settings import VerifierArgs

pytestmark = pytest.mark.slow


def test_a_service_is_kept_for_the_same_settings_and_goes_for_others(serve_url: str) -> None:
    args = VerifierArgs(run="kept", workers=1)
    wanted = {"kept-verifier": args}
    said: list[str] = []
    assert kept(wanted, said.append) == []
    with deployed(
        {name: build(each) for name, each in wanted.items()}, timeout_s=240, setting="-", take_down=False
    ) as url:
        assert url == serve_url
    with deployed({}, timeout_s=240, setting="-", take_down=False) as url:  # all that is needed is up
        assert url == serve_url
    assert kept({"kept-verifier": args.model_copy()}, said.append) == ["kept-verifier"]
    assert said == []

    assert kept({"kept-verifier": args.model_copy(update={"workers": 2})}, said.append) == []
    assert said == ["kept-verifier is started anew: this run has other settings for it"]
    assert "kept-verifier" not in serve.status().applications


def test_only_what_has_the_name_is_taken_down(serve_url: str) -> None:
    names = {"gone-verifier", "other-gone-verifier"}
    args = VerifierArgs(workers=1)
    with deployed({name: build(args) for name in names}, timeout_s=240, setting="-"):
        taken_down("gone-")
        assert names & set(serve.status().applications) == {"other-gone-verifier"}

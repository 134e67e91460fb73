"""Services that one run leaves to the next are found by their settings, and replaced where those differ."""

import pytest
from ray import serve

from services.serve.deployment import deployed, taken_down
from services.serve.kept import all_taken_down, kept
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
    args, said = VerifierArgs(workers=1), list[str]()
    with deployed({name: build(args) for name in names}, timeout_s=240, setting="-"):
        all_taken_down("gone-", said.append)
        assert names & set(serve.status().applications) == {"other-gone-verifier"}
    assert said == []


def test_one_that_does_not_end_is_told_and_left_to_serve(
    serve_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def delete(name: str) -> None:
        asked.append(name)
        if name == "hangs":
            raise TimeoutError  # as Serve says after a minute

    monkeypatch.setattr(serve, "delete", delete)
    said: list[str] = []
    taken_down(["hangs", "ends"], said.append)
    assert asked == ["hangs", "ends"]
    assert said == ["hangs has not ended within a minute; Serve goes on ending it"]

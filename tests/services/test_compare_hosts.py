"""In a cluster that several share, a comparison's services are its own, whatever the folders are called."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlad_core.config import RunConfig, load
from services.compare import host as hosting
from services.compare.host import Hosts


@pytest.fixture
def config() -> RunConfig:
    return load("kk-tiny-trrd")


def services_of(folder: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch, number: int = 1) -> str:
    """What the services of a comparison's host are called; what begins with it and a dash goes with it."""
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []

    def host(config: RunConfig, cpus: int, services: str, log: Path) -> Any:
        names.append(services)
        return SimpleNamespace(cluster=config.cluster)

    monkeypatch.setattr(hosting, "Host", host)
    Hosts(folder, 1).host(number, config)
    [name] = names
    return name


def test_no_comparison_takes_down_the_services_of_another(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = ["one/smoke", "other/smoke", "smoke-1", "a.b", "a-b", "...", "smoke-1-1"]
    names = [services_of(tmp_path / each, config, monkeypatch) for each in folders]
    names.append(services_of(tmp_path / folders[0], config, monkeypatch, number=10))
    applications = [f"{name}-rollout" for name in names]
    for name, own in zip(names, applications, strict=True):
        assert [each for each in applications if each.startswith(f"{name}-")] == [own]


def test_what_is_gone_on_with_has_the_services_that_it_had(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = services_of(tmp_path / "smoke", config, monkeypatch)
    assert services_of(tmp_path / "smoke", config, monkeypatch) == first
    assert load("kk-tiny-trrd", [f"cluster.services={first}"]).services_name == first
    assert (tmp_path / "smoke" / "services_as").read_text() == f"{first.removesuffix('-1')}\n"

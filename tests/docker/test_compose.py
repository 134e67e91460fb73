"""docker/compose.yaml: read as YAML, since Docker itself is rarely where tests run."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile import ROOT

COMPOSE = ROOT / "docker" / "compose.yaml"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def test_ports_are_this_machines_own(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"


def test_images_have_a_version(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["image"].rpartition(":")[2].lstrip("v")[0].isdigit()
    build = compose["x-rlad"]["build"]
    assert (COMPOSE.parent / build["context"] / build["dockerfile"]).samefile(ROOT / "docker" / "Dockerfile")


def test_containers_have_no_more_rights_than_they_need(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_what_ends_is_waited_for_and_all_else_lasts(compose: dict[str, Any]) -> None:
    """`up --wait` fails if a container ends that nobody waits for to end."""
    waited = {
        other
        for service in compose["services"].values()
        for other, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert waited == {"deploy"}
    for name, service in compose["services"].items():
        assert service.get("restart") == (None if name in waited else "unless-stopped"), name


def test_names_are_declared(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for other in service.get("depends_on", []):
            assert other in compose["services"], name
        assert set(service.get("secrets", [])) <= compose["secrets"].keys(), name
        for source, *_ in (volume.split(":") for volume in service.get("volumes", [])):
            assert source.startswith(".") or source in compose["volumes"], name


def test_mounted_folders_are_there(compose: dict[str, Any]) -> None:
    missing = [
        source
        for service in compose["services"].values()
        for source, *_ in (volume.split(":") for volume in service.get("volumes", []))
        if source.startswith(".") and not (COMPOSE.parent / source).is_dir()
    ]
    assert not missing


def test_what_is_provisioned_finds_its_files_and_variables(compose: dict[str, Any]) -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    grafana, prometheus = compose["services"]["grafana"], compose["services"]["prometheus"]
    mounted = {volume.split(":")[1] for volume in grafana["volumes"]}
    dashboards, sources = (list((provisioning / of).glob("*.yaml")) for of in ("dashboards", "datasources"))
    assert dashboards
    assert sources
    for file in dashboards:
        for provider in yaml.safe_load(file.read_text())["providers"]:
            assert provider["options"]["path"] in mounted
    for file in sources:
        assert set(re.findall(r"\$\{(\w+)\}", file.read_text())) <= grafana["environment"].keys()
    [config] = [word for word in prometheus["command"] if word.startswith("--config.file=")]
    assert (ROOT / "deploy" / "prometheus" / Path(config).name).is_file()


def test_the_services_can_be_reached_from_other_containers(tmp_path: Path, compose: dict[str, Any]) -> None:
    """The very command that prepares the Serve file, up to the deployment."""
    [shell, flag, script] = compose["services"]["deploy"]["command"]
    prepare = script.partition(" && serve deploy")[0]
    prepare = prepare.replace("/tmp", str(tmp_path)).replace(
        "/etc/rlad/serve", str(ROOT / "deploy" / "serve")
    )
    subprocess.run([shell, flag, prepare], check=True, timeout=30)
    config, file = (
        yaml.safe_load(p.read_text()) for p in (tmp_path / "all.yaml", ROOT / "deploy/serve/all.yaml")
    )
    assert config["http_options"].pop("host") == "0.0.0.0"
    assert file["http_options"].pop("host") == "127.0.0.1"
    assert config == file


def test_secrets_stay_out_of_git() -> None:
    done = subprocess.run(
        ["git", "check-ignore", "docker/api-tokens"], cwd=ROOT, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0

"""Services that are started once for all tests that need them, and folders in place of models."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from ray import serve
from ray.serve.schema import ServeDeploySchema

from rlad_core.config import models
from services.base import tracing
from services.cli.service_settings import SERVICES

# The test folders are no packages (pytest imports each file by itself); what they share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

from rollout_service import StartedRollouts, start_rollouts

SERVE_FILES = Path(__file__).parents[2] / "deploy" / "serve"


@pytest.fixture(autouse=True)
def no_tracing_is_left() -> Iterator[None]:
    """What belongs to a run traces in the test's process too; a second one would go on into its folder."""
    yield
    tracing.end()


@pytest.fixture(scope="session")
def rollouts(ray_cluster: None, padded_tiny_model) -> Iterator[StartedRollouts]:
    """Two replicas of the padded tiny model."""
    with start_rollouts("pair", padded_tiny_model, num_replicas=2) as started:
        yield started


@pytest.fixture(scope="session")
def http(
    ray_cluster: None, serve_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """All three, deployed from the file; only the cluster's own HTTP port differs."""
    config = yaml.safe_load((SERVE_FILES / "all.yaml").read_text())
    jobs_dir = str(tmp_path_factory.mktemp("jobs"))
    for app in config["applications"]:
        # The session's cluster has few logical CPUs, and one replica of each is enough here.
        app["args"]["num_cpus"] = 0.1
        app["args"]["autoscaling"]["max_replicas"] = 1
        app["args"]["jobs_dir"] = jobs_dir
    ServeDeploySchema.model_validate(config)
    for app in config["applications"]:
        module, _, attribute = app["import_path"].partition(":")
        service = SERVICES[app["name"]]
        assert (module, attribute) == (service.build.__module__, service.build.__name__)
        built = service.build(service.args.model_validate(app["args"]))
        serve.run(built, name=app["name"], route_prefix=app["route_prefix"])
    with httpx.Client(base_url=serve_url, timeout=120) as client:
        yield client


@pytest.fixture
def shipped_models(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders in place of the models that ship with the project; recipes stay where they are."""
    shipped = tmp_path_factory.mktemp("shipped")
    for name in ("kk-student", "kk-teacher"):
        folder = shipped / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
        (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        (folder / "tokenizer.json").touch()
    monkeypatch.setattr(models, "SHIPPED", shipped)

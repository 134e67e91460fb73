"""The Serve configuration in the RayServices is that of deploy/serve, and fits the pods it is deployed on."""

import importlib.util
from types import ModuleType
from typing import Any

import pytest
import yaml
from manifests import ROOT, Manifest, the, worker_groups
from ray.serve.schema import ServeDeploySchema

from services.cli.serving import SERVICES

SERVING = ("dev", "teacher-service", "teacher-two-nodes")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve_config", ROOT / "k8s" / "serve_config.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as as_a_program:
        as_a_program.syspath_prepend(ROOT / "k8s")
        spec.loader.exec_module(module)
    return module


def deployed(objects: list[Manifest]) -> dict[str, Any]:
    return yaml.safe_load(the(objects, "RayService")["spec"]["serveConfigV2"])


def test_the_patches_are_what_the_generator_writes(
    generator: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generator.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("overlay", SERVING)
def test_only_what_the_overlay_names_differs(
    overlay: str, rendered: dict[str, list[Manifest]], generator: ModuleType
) -> None:
    """Read without the generator's help: the file, the rendered manifest, and the settings between them."""
    settings = yaml.safe_load((ROOT / "k8s" / "overlays" / overlay / "serve-settings.yaml").read_text())
    file = flat(yaml.safe_load((ROOT / "deploy" / "serve" / settings.pop("from")).read_text()))
    manifest = flat(deployed(rendered[overlay]))
    named = flat(settings)
    assert {key: manifest.get(key) for key in named} == named
    assert {key: value for key, value in manifest.items() if key not in named} == {
        key: value for key, value in file.items() if key not in named
    }


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = {each["name"]: each for each in value}
    if not isinstance(value, dict):
        return {path: value}
    return {key: leaf for name, inner in value.items() for key, leaf in flat(inner, f"{path}/{name}").items()}


def test_settings_for_nothing_are_refused(generator: ModuleType) -> None:
    with pytest.raises(generator.SettingsError, match=r"other\.yaml is not in deploy/serve"):
        generator.serve_config({"from": "other.yaml"})
    with pytest.raises(generator.SettingsError, match=r"rollout is not in teacher\.yaml"):
        generator.serve_config({"from": "teacher.yaml", "applications": {"rollout": {}}})


@pytest.mark.parametrize("overlay", SERVING)
def test_serve_and_the_service_take_it(overlay: str, rendered: dict[str, list[Manifest]]) -> None:
    config = ServeDeploySchema.model_validate(deployed(rendered[overlay]))
    assert config.http_options.host == "0.0.0.0"
    [group] = worker_groups(rendered[overlay], "RayService").values()
    for app in config.applications:
        args = SERVICES[app.name].args.model_validate(app.args)
        # A replica that goes lets the longest request end, its pod the replica, and an old cluster both.
        command = group.container["lifecycle"]["preStop"]["exec"]["command"]
        within = int(command[command.index("--within") + 1])
        assert args.limits.timeout_s < args.drain_timeout_s < within
        assert within < group.spec["terminationGracePeriodSeconds"]
        delay = the(rendered[overlay], "RayService")["spec"]["rayClusterDeletionDelaySeconds"]
        assert delay > config.http_options.request_timeout_s
        # Each replica fits into a pod, all its GPUs with it, and the pods are as many as replicas may be.
        assert args.node_labels.items() <= group.group["labels"].items()
        assert args.num_cpus <= float(group.container["resources"]["limits"]["cpu"])
        assert args.num_gpus == group.gpus * group.group.get("numOfHosts", 1)
        assert args.tensor_parallel_size == group.gpus or not group.gpus  # a layer's parts are on one node
        per_pod = (
            float(group.container["resources"]["limits"]["cpu"]) // args.num_cpus if not group.gpus else 1
        )
        assert args.autoscaling.max_replicas <= group.most * per_pod

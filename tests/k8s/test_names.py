"""Names, labels, images and numbers that Kubernetes takes, and what is said of others."""

import subprocess
import sys
from typing import Any

import pytest
import yaml
from manifests import QWEN, ROOT, of_kind

from rlad_core.config import load
from services.kubernetes import KubernetesError, Wishes
from services.kubernetes.names import LONGEST, TEACHER
from services.kubernetes.places import name_of


@pytest.mark.parametrize("name", ["a", "run-2", "x" * LONGEST])
def test_names_that_kubernetes_takes(name: str) -> None:
    Wishes(name, namespace=f"7{name}")


def test_no_run_takes_what_the_teacher_for_many_runs_is_called() -> None:
    base = ROOT / "k8s" / "base" / "teacher"
    [teacher] = of_kind(list(yaml.safe_load_all((base / "rayservice.yaml").read_text())), "RayService")
    assert teacher["metadata"]["name"] == TEACHER
    labels = teacher["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["metadata"]["labels"]
    assert labels["rlad.io/cluster"] == TEACHER


def test_any_recipe_s_name_becomes_one() -> None:
    for name in ("7_Up", "A" * 60):
        Wishes(name_of(load(QWEN, [f"name={name}"])))


@pytest.mark.parametrize(
    ("name", "namespace", "said"),
    [
        ("My_Run", "", "--name 'My_Run' .* lower case letters"),
        ("", "", "--name ''"),
        ("run-", "", "no - at the end"),
        ("2-run", "", "a letter first"),
        ("run\n", "", "is no name"),
        ("teacher", "", "--name: teacher is what the service .* is called"),
        ("x" * (LONGEST + 1), "", f"has 48 characters, and {LONGEST} are taken. Write a shorter one"),
        ("run", "team.a", "--namespace 'team.a'"),
        ("run", "n" * 64, "--namespace n+ has 64 characters"),
    ],
)
def test_other_names_are_refused(name: str, namespace: str, said: str) -> None:
    with pytest.raises(KubernetesError, match=said):
        Wishes(name, namespace)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"queue": "My Queue"}, "--queue 'My Queue' is no name .* lower case letters"),
        ({"queue": "q" * 64}, "--queue q+ has 64 characters, and 63"),
        ({"priority": "Urgent!"}, "--priority 'Urgent!' is no name"),
        ({"priority": "p" * 64, "queue": "runs"}, "--priority p+ has 64 characters, and 63"),
        ({"gpu_node": {"a b": "c"}}, "--gpu-node a b=c: 'a b' is no name"),
        ({"gpu_node": {"gpu": "two words"}}, "--gpu-node gpu=two words: 'two words' is no name"),
        ({"gpu_node": {"Nvidia/gpu": "h100"}}, "'Nvidia' is no name"),
        ({"gpu_node": {"": "h100"}}, "--gpu-node =h100: '' is no name"),
    ],
)
def test_what_can_be_no_label_is_refused(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(KubernetesError, match=said):
        Wishes("run", **wish)


@pytest.mark.parametrize("image", ["", "two words", "here/Rlad:1", "https://here/rlad", "rlad:"])
def test_what_names_no_image_is_refused(image: str) -> None:
    with pytest.raises(KubernetesError, match=r"--image .* names no image"):
        Wishes("run", image=image)


@pytest.mark.parametrize(
    "image", ["rlad", "Here.example.com:5000/team/rl__ad-x:0.1.0-gpu", f"[::1]:5000/rlad@sha256:{'a' * 64}"]
)
def test_images_that_pods_run(image: str) -> None:
    Wishes("run", image=image)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--days", "24856"),
        ("--days", "inf"),
        ("--days", "0"),
        ("--memory", "learner=²"),
        ("--memory", "learner=0"),
    ],
)
def test_numbers_that_kubernetes_does_not_take_are_refused(option: str, value: str) -> None:
    command = [sys.executable, "-m", "services", "k8s", QWEN, option, value]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Invalid value for {option}" in done.stderr.replace("'", "")


def test_labels_and_priorities_that_kubernetes_takes() -> None:
    node = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "gpu": ""}
    Wishes("run", queue="team-a.runs", priority="urgent", gpu_node=node)
    Wishes("run", priority="p" * 64)


def test_the_command_says_what_is_wrong_with_a_name() -> None:
    command = [sys.executable, "-m", "services", "k8s", QWEN, "--name", "My_Run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--name 'My_Run' is no name for Kubernetes" in " ".join(done.stderr.split())

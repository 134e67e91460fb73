"""``rlad k8s RECIPE``: pods that the recipe's roles fill, worked out by hand, and objects that KubeRay's
schema takes."""

import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from manifests import QWEN, ROOT, Manifest, of_kind, pods, recipe_of, the, worker_groups, written
from test_schemas import KUBERNETES, UNCHECKED, crd

from rlad_core.config import ConfigError, load, parse
from rlad_core.sizing import GPUS
from services.kubernetes import KubernetesError, groups, placed
from services.kubernetes.groups import _gpus
from services.kubernetes.places import recipe_text

H100 = GPUS["H100"]


@pytest.fixture(scope="module")
def objects() -> list[Manifest]:
    return written(QWEN, "--namespace", "rlad", "--gpu-node", "gpu=h100", "--image", "here/rlad:1-gpu")


def test_the_overlays_runs_are_what_the_command_writes() -> None:
    done = subprocess.run(
        [sys.executable, "k8s/runs.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pods_are_what_the_recipe_asks_for(objects: list[Manifest]) -> None:
    config = recipe_of(objects)
    assert config.model_dump(exclude={"output", "cluster", "rollout", "teacher", "learner"}) == load(
        QWEN
    ).model_dump(exclude={"output", "cluster", "rollout", "teacher", "learner"})
    found = worker_groups(objects, "RayJob")
    assert {name: (each.most, each.gpus) for name, each in found.items()} == {
        "services": (1, 0), "rollout": (3, 1), "teacher": (2, 1), "learner": (1, 3),
    }  # fmt: skip
    for place in (config.rollout, config.teacher, config.learner):
        assert place.node_labels["rlad-role"] in found
    assert all(each.spec.get("nodeSelector") == {"gpu": "h100"} for each in found.values() if each.gpus)
    assert {each.container["image"] for each in pods(objects)} == {"here/rlad:1-gpu"}


def test_objects_fit_their_schemas_and_have_one_name(objects: list[Manifest]) -> None:
    name = "qwen3-0-6b-kk-trrd"
    for each in objects:
        assert each["metadata"]["name"].startswith(name)
        if each["apiVersion"] == "ray.io/v1":
            jsonschema.Draft4Validator(crd(each["kind"])).validate(each)
        elif each["kind"] not in UNCHECKED:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
    assert f"rlad.io/cluster: {name}" in yaml.safe_dump(objects)
    assert "rlad.io/cluster: run\n" not in yaml.safe_dump(objects)


def test_two_runs_share_a_namespace(objects: list[Manifest]) -> None:
    other = written(
        QWEN,
        "--namespace",
        "rlad",
        "--set",
        "name=second",
        "--queue",
        "runs",
        "--priority",
        "urgent",
        "--days",
        "21.5",
    )
    named = [{(each["kind"], each["metadata"]["name"]) for each in some} for some in (objects, other)]
    assert not named[0] & named[1]
    job = the(other, "RayJob")
    assert job["spec"]["suspend"] is True
    assert job["spec"]["activeDeadlineSeconds"] == 1_857_600
    assert the(objects, "RayJob")["spec"]["activeDeadlineSeconds"] == 604_800
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "runs"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "urgent"
    assert {each.spec["priorityClassName"] for each in pods(other)} == {"rlad-run"}


def test_the_models_are_fetched_by_a_job_of_their_own() -> None:
    objects = written(QWEN, "--fetch", "--namespace", "rlad")
    job = the(objects, "Job")
    commands = [container["command"] for container in job["spec"]["template"]["spec"]["containers"]]
    assert commands == [
        ["rlad", "fetch", model, "--to", f"/models/{model}"] for model in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B")
    ]
    for each in objects:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    [policy] = of_kind(objects, "NetworkPolicy")
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_models_are_fetched_wherever_the_data_lie(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    files = f"{{files: [{{path: {tmp_path}/rows.jsonl}}]}}"
    task = f"task={{name: math, train: {files}, evaluation: {files}}}"
    settings = ("--set", task, "--set", "verifier.workers=8", "--priority", "mine")
    [job] = of_kind(written(QWEN, "--fetch", *settings), "Job")
    assert job["metadata"]["name"] == "fetch-models-qwen3-0-6b-kk-trrd"
    assert job["spec"]["template"]["spec"]["priorityClassName"] == "mine"


def group_of(name: str, *overrides: str, recipe: str = QWEN, **options: int) -> tuple[int, int, int]:
    """Pods, GPUs of one, and hosts of a replica."""
    found = {group.name: group for group in groups(placed(Path(recipe), list(overrides)), H100, **options)}
    return found[name].pods, found[name].gpus, found[name].hosts


def test_ranks_of_the_learner_share_pods_evenly() -> None:
    assert group_of("learner", "learner.workers=8") == (1, 8, 1)
    assert group_of("learner", "learner.workers=16") == (2, 8, 1)
    assert group_of("learner", "learner.workers=12") == (2, 6, 1)
    assert group_of("learner", "learner.workers=6", gpus_per_node=4) == (2, 3, 1)


def test_a_replica_that_is_larger_than_a_node_spans_several() -> None:
    spanning = ("teacher.engine=vllm", "teacher.tensor_parallel_size=8", "teacher.pipeline_parallel_size=2")
    assert group_of("teacher", *spanning, "teacher.num_gpus=16", "teacher.num_replicas=1") == (2, 8, 2)


def test_a_teacher_that_writes_and_scores_is_two_services() -> None:
    """Each has all of its replicas, so that 2 of 1 GPU want 4."""
    writes = "{steps: 5, objective: {kind: sft, source: teacher}}"
    assert group_of("teacher", f"stages=[{writes}]") == (2, 1, 1)
    assert group_of("teacher", f"stages=[{writes}, {{steps: 5, objective: {{kind: trrd}}}}]") == (4, 1, 1)
    on_cpus = [f"stages=[{writes}]", "teacher.num_gpus=0", "teacher.kv_cache_memory_gib=100"]
    found = {group.name: group for group in groups(placed(Path(QWEN), on_cpus), H100)}
    assert found["teacher"].memory_gib > 2 * 100  # one pod, and what both of its engines keep


def test_parts_of_a_gpu_share_a_pod() -> None:
    assert group_of("shared", recipe="qwen3-0.6b-kk-trrd-1gpu") == (1, 1, 1)


@pytest.mark.parametrize(
    ("shares", "gpus"),
    [([0.6] * 3, 3), ([0.6] * 4, 4), ([0.4, 0.4, 0.2], 1), ([0.1] * 10, 1), ([0.5, 0.7, 0.3, 0.5], 2)],
)
def test_a_part_of_a_gpu_lies_on_one_gpu(shares: list[float], gpus: int) -> None:
    assert _gpus(shares) == gpus


def test_memory_is_what_is_counted_and_what_is_not() -> None:
    """A rollout pod of Qwen3-0.6B: a process's 8 GiB, its weights of 1.1 GiB, and in the store the
    experience of
    256 x 8 responses of 3,072 tokens at 40 bytes (0.23 GiB), since weights are pushed: 9.4 GiB, over 0.7.
    """
    found = {group.name: group for group in groups(placed(Path(QWEN), []), H100)}
    assert (8 + 1.1) / 0.7 < found["rollout"].memory_gib == 16
    given = groups(placed(Path(QWEN), []), H100, memory={"rollout": 100})
    assert {group.name: group.memory_gib for group in given}["rollout"] == 100
    given = groups(placed(Path(QWEN), []), H100, memory={"services": 50})
    assert {group.name: group.memory_gib for group in given} == {
        name: 50 if name == "services" else group.memory_gib for name, group in found.items()
    }


def test_what_cannot_run_in_pods_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KubernetesError, match=r"no group nobody\. Write one of services, rollout, teacher"):
        groups(placed(Path(QWEN), []), H100, memory={"nobody": 1})
    with pytest.raises(KubernetesError, match=r"size of some/model .* --memory teacher="):
        groups(placed(Path(QWEN), ["teacher.model=some/model"]), H100)
    reward = tmp_path / "reward.py"
    reward.write_text("def score(response, gold, row):\n    return 1.0\n")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    files = f"{{files: [{{path: {tmp_path}/rows.jsonl}}]}}"
    task = f"task={{name: prompts, reward: {reward}:score, train: {files}, evaluation: {files}}}"
    with pytest.raises(KubernetesError, match=r"names what pods do not have: .*rows\.jsonl"):
        placed(Path(QWEN), [task, "verifier.workers=8"])


@pytest.mark.parametrize(
    ("folder", "kept"), [("runs", "/runs"), ("/runs-of-others", "/runs"), ("/runs/team a", "/runs/team a")]
)
def test_what_a_recipe_says_of_its_volume_and_its_start_is_kept(folder: str, kept: str) -> None:
    assert placed(Path(QWEN), [f"output.dir='{folder}'"]).output.dir == kept
    waits = [placed(Path(QWEN), [f"cluster.start_timeout_s={s}"]).cluster.start_timeout_s for s in (60, 3600)]
    assert waits == [1800, 3600]


@pytest.mark.parametrize("place", ["rollout", "learner", "teacher"])
def test_labels_that_no_pod_has_are_refused(place: str) -> None:
    """Ray would wait for such a node, and the run end after half an hour."""
    wanted = f"{place}.node_labels.disk=fast"
    with pytest.raises(KubernetesError, match=rf"{place}.node_labels: no pod has the label disk.*={{}}, and"):
        placed(Path(QWEN), [wanted])
    placed(Path(QWEN), [wanted, f"{place}.node_labels={{}}"])
    placed(Path(QWEN), [f"{place}.node_labels.rlad-role=mine"])


def test_what_a_model_reads_is_no_file_of_this_machine() -> None:
    written = ["teacher.prefix=/no_think ", 'policy.chat_template="/think {{ messages[0].content }}"']
    config = placed(Path(QWEN), written)
    assert config.policy.chat_template == "/think {{ messages[0].content }}"
    assert config.teacher_sections["teacher"].prefix == "/no_think"


def test_data_that_pods_have_elsewhere_is_named_there(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    files = f"{{files: [{{path: {tmp_path}/rows.jsonl}}]}}"
    task = f"task={{name: math, train: {files}, evaluation: {files}}}"
    config = placed(Path(QWEN), [task, "verifier.workers=8"], {str(tmp_path): "/runs/data"})
    [file] = config.task.train.files
    assert file.path == "/runs/data/rows.jsonl"
    assert config.rollout.node_labels == {"rlad-role": "rollout"}


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ``--set`` says of rows in ``data/``, named from ``mine/`` beside it; one types beside both."""
    for folder in ("data/deep", "mine", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("data", "data/deep"):
        (tmp_path / folder / "rows.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    rows, deep = f"{tmp_path}/mine/../data/rows.jsonl", f"{tmp_path}/link/deep/rows.jsonl"
    task = f"{{name: math, train: {{files: [{{path: {rows}}}]}}, evaluation: {{files: [{{path: {deep}}}]}}}}"
    return [f"task={task}", "verifier.workers=8"]


@pytest.mark.parametrize(
    ("moved", "train", "held_out"),
    [
        ({"data": "/runs/d"}, "/runs/d/rows.jsonl", "/runs/d/deep/rows.jsonl"),
        ({"elsewhere/../link/": "/runs/d/"}, "/runs/d/rows.jsonl", "/runs/d/deep/rows.jsonl"),
        ({".": "/runs", "data/deep": "/models/x"}, "/runs/data/rows.jsonl", "/models/x/rows.jsonl"),
        ({"data/deep": "/models/x", ".": "/runs"}, "/runs/data/rows.jsonl", "/models/x/rows.jsonl"),
    ],
)
def test_a_folder_is_the_same_however_its_path_is_written(
    beside: list[str], moved: dict[str, str], train: str, held_out: str
) -> None:
    task = placed(Path(QWEN), beside, moved).task
    assert [file.path for file in (*task.train.files, *task.evaluation.files)] == [train, held_out]


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ({"data": "/runs-of-others/d"}, "--files data=/runs-of-others/d: pods have none. Write /runs/"),
        ({"data": "runs/d"}, "--files data=runs/d: pods have none"),
        ({"data": "/etc/rlad/secrets"}, "pods have none"),
        (
            {"data": "/runs/d", "elsewhere": "/runs/e"},
            "--files elsewhere=/runs/e: the recipe names nothing in /",
        ),
        ({"mine": "/runs/mine"}, "--files mine=/runs/mine: the recipe names nothing in /"),
    ],
)
def test_a_place_that_no_pod_has_or_nothing_needs_is_refused(
    beside: list[str], moved: dict[str, str], said: str
) -> None:
    with pytest.raises(KubernetesError, match=said):
        placed(Path(QWEN), beside, moved)


def test_a_model_of_ones_own_is_as_large_in_pods_as_it_is_here() -> None:
    """It is typed from where the command is started, and its size read there; pods read it elsewhere."""
    tiny = "deploy/recipes/kk-tiny-trrd.yaml"
    mine = ["--set", "policy.model=deploy/models/kk-student", "--files", "deploy/models=/models/mine"]
    ours, moved = written(tiny), written(tiny, *mine)
    assert recipe_of(moved).policy.model == "/models/mine/kk-student"
    assert worker_groups(moved, "RayJob") == worker_groups(ours, "RayJob")


def test_a_folder_that_begins_like_a_volume_is_none(beside: list[str]) -> None:
    with pytest.raises(KubernetesError, match=r"names what pods do not have: /models2/m\. Put"):
        placed(Path(QWEN), [*beside, "teacher.model=/models2/m"], {"data": "/runs/d"})


def test_code_that_pods_have_elsewhere_is_checked_here_and_named_there(tmp_path: Path) -> None:
    (tmp_path / "reward.py").write_text(
        "from beside import REWARD\n\ndef score(response, gold, row):\n    return REWARD\n"
    )
    (tmp_path / "beside.py").write_text("REWARD = 1.0\n")
    (tmp_path / "method.py").write_text(
        "from rlad_core.objectives import KINDS\n\nclass Mine(KINDS['grpo']):\n    kind: str\n"
    )
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    files = f"{{files: [{{path: {tmp_path}/rows.jsonl}}]}}"
    task = f"{{name: prompts, reward: {tmp_path}/reward.py:score, train: {files}, evaluation: {files}}}"
    written = [
        f"task={task}",
        f"stages.0.objective={{kind: {tmp_path}/method.py:Mine}}",
        "verifier.workers=8",
    ]
    with pytest.raises(KubernetesError, match=f"of code the whole folder, {tmp_path}; then write --files"):
        placed(Path(QWEN), written)
    config = placed(Path(QWEN), written, {str(tmp_path): "/runs/mine"})
    assert config.code_places == ("/runs/mine/reward.py:score", "/runs/mine/method.py:Mine")
    assert str(tmp_path) not in recipe_text(config)
    with pytest.raises(ConfigError, match=r"nothing\.py"):
        placed(
            Path(QWEN), [*written, f"task.reward={tmp_path}/nothing.py:score"], {str(tmp_path): "/runs/mine"}
        )


def test_a_text_that_looks_like_a_number_stays_one() -> None:
    config = placed(Path(QWEN), ['policy.chat_template_kwargs={"effort": "1e5"}'])
    assert parse(recipe_text(config))["policy"]["chat_template_kwargs"] == {"effort": "1e5"}

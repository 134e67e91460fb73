"""``rlad k8s RECIPE``: pods that the recipe's roles fill, worked out by hand, and objects that KubeRay's
schema takes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from manifests import ROOT, Manifest, of_kind, pods, recipe_of, the, worker_groups
from test_schemas import KUBERNETES, UNCHECKED, crd

from rlad_core.config import ConfigError, load, parse
from rlad_core.sizing import GPUS
from services.kubernetes import KubernetesError, Wishes, groups, placed
from services.kubernetes.groups import _gpus
from services.kubernetes.names import LONGEST, TEACHER
from services.kubernetes.places import name_of, recipe_text
from services.kubernetes.reaching import egress_policy, token_overrides

H100 = GPUS["H100"]
QWEN = "qwen3-0.6b-kk-trrd"


def written(*arguments: str) -> list[Manifest]:
    """What the command writes."""
    command = [sys.executable, "-m", "services", "k8s", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


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
    [job] = of_kind(written(QWEN, "--fetch", "--set", task, "--set", "verifier.workers=8"), "Job")
    assert job["metadata"]["name"] == "fetch-models-qwen3-0-6b-kk-trrd"


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


def asked_at(url: str, *more: str) -> list[str]:
    """A teacher elsewhere, as ``--set`` says it."""
    return ["teacher=null", "teacher.kind=http", f"teacher.url={url}", *more]


@pytest.mark.parametrize(
    ("url", "to"),
    [
        ("http://10.0.0.5:8000", [{"ipBlock": {"cidr": "10.0.0.5/32"}}]),
        ("http://[fd00::5]:8000", [{"ipBlock": {"cidr": "fd00::5/128"}}]),
        ("http://teacher-serve-svc:8000", [{"podSelector": {}}]),
        (
            "http://teacher.other.svc.cluster.local:8000",
            [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}],
        ),
        ("http://teacher.example.com:8000", None),
    ],
)
def test_a_teacher_elsewhere_can_be_reached(url: str, to: list[Manifest] | None) -> None:
    policy = egress_policy(placed(Path(QWEN), asked_at(url)))
    assert policy is not None
    [rule] = policy["spec"]["egress"]
    assert rule.get("to") == to
    assert rule["ports"] == [{"protocol": "TCP", "port": 8000}]


def test_every_teacher_elsewhere_is_reached_and_nothing_for_one_that_is_not() -> None:
    assert egress_policy(placed(Path(QWEN), [])) is None
    two = "teachers=[{kind: http, url: 'https://a.example', weight: 1}, {kind: openai, model: m, url: 'http://b'}]"
    config = placed(Path(QWEN), ["teacher=null", two, "teachers.1.weight=2"])
    policy = egress_policy(config)
    assert policy is not None
    assert [rule["ports"][0]["port"] for rule in policy["spec"]["egress"]] == [443, 80]
    held = "reference={kind: http, url: 'https://r.example'}"
    policy = egress_policy(placed(Path(QWEN), [held, "stages.0.objective={kind: grpo, reference_kl: 0.1}"]))
    assert policy is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0.0.0.0", "localhost", "LOCALHOST."])
def test_a_teacher_in_the_pod_itself_is_refused(host: str) -> None:
    with pytest.raises(KubernetesError, match="is the pod itself"):
        egress_policy(placed(Path(QWEN), asked_at(f"http://{host}:8000")))


@pytest.mark.parametrize("told", [(), ("teacher.token_env=TOKEN",), ("teacher.token_file=/home/me/token",)])
def test_a_teacher_s_token_comes_out_of_a_secret(told: tuple[str, ...]) -> None:
    settings = [word for each in asked_at("https://teacher", *told) for word in ("--set", each)]
    objects = written(QWEN, *settings, "--secret", "teacher=the-token")
    teacher = recipe_of(objects).teacher
    assert teacher is not None
    assert (teacher.token_env, teacher.token_file) == (None, "/etc/rlad/secrets/the-token/token")
    having = {each.where for each in pods(objects) if "the-token" in str(each.spec["volumes"])}
    assert having == {f"RayJob {the(objects, 'RayJob')['metadata']['name']}, head"}
    [head] = [each for each in pods(objects) if each.where in having]
    [mount] = [m for m in head.container["volumeMounts"] if m["name"] == "secret-0"]
    assert mount["mountPath"] == "/etc/rlad/secrets/the-token"
    names = {each["metadata"]["name"] for each in of_kind(objects, "NetworkPolicy")}
    assert "qwen3-0-6b-kk-trrd-teachers" in names
    for each in objects:
        if each["kind"] == "NetworkPolicy":
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
            if each["metadata"]["name"].endswith("-teachers"):
                assert each["spec"]["podSelector"]["matchLabels"].items() <= head.labels.items()


@pytest.mark.parametrize(
    ("told", "secrets", "said"),
    [
        ("teacher.token_env=TOKEN", {}, r"teacher\.token_env \(TOKEN\): .* write --secret teacher=NAME"),
        ("teacher.token_file=/home/me/t", {}, r"teacher\.token_file \(/home/me/t\): pods do not have it"),
        (
            "teacher.token_file=/runs/t",
            {"teachers.0": "x"},
            "teachers.0 is no teacher elsewhere .* one of teacher",
        ),
        ("teacher.token_file=/runs/t", {"teacher": "My Secret"}, "--secret 'My Secret' is no name"),
    ],
)
def test_a_token_that_pods_do_not_have_is_refused(told: str, secrets: dict[str, str], said: str) -> None:
    with pytest.raises(KubernetesError, match=said):
        token_overrides(load(QWEN, asked_at("https://teacher", told)), secrets)


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

"""Teachers elsewhere: pods may go there, and have their tokens."""

from pathlib import Path

import kubernetes_validate
import pytest
from manifests import QWEN, Manifest, of_kind, pods, recipe_of, the, written
from test_schemas import KUBERNETES

from rlad_core.config import load
from services.kubernetes import KubernetesError, placed
from services.kubernetes.reaching import egress_policy, token_overrides


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

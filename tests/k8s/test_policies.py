"""What every pod of every overlay keeps to, and who may reach it."""

import ipaddress
import shlex
from itertools import pairwise

import pytest
from manifests import OVERLAYS, Manifest, Pods, of_kind, pods, ray_clusters, recipe_of, the, worker_groups

LASTING = ("teacher-service", "teacher-two-nodes")
RUNS = ("dev", "training", "training-remote-teacher")
WITH_PODS = [name for name in OVERLAYS if name != "namespace"]
#: Made by hand, as docs/kubernetes.md says; never part of the manifests.
SECRETS = {"api-tokens", "huggingface", "redis", "teacher-token", "teacher-tls", "registry"}


@pytest.fixture(params=WITH_PODS)
def objects(request: pytest.FixtureRequest, rendered: dict[str, list[Manifest]]) -> list[Manifest]:
    return rendered[request.param]


def test_pods_are_no_root_and_have_no_privilege(objects: list[Manifest]) -> None:
    for each in pods(objects):
        pod, container = each.spec["securityContext"], each.container["securityContext"]
        assert pod["runAsNonRoot"] is True, each.where
        assert pod["runAsUser"] > 0, each.where
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, each.where
        assert container["allowPrivilegeEscalation"] is False, each.where
        assert container["privileged"] is False, each.where
        assert container["readOnlyRootFilesystem"] is True, each.where
        assert container["capabilities"] == {"drop": ["ALL"]}, each.where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & each.spec.keys(), each.where
        assert not any("hostPath" in volume for volume in each.spec["volumes"]), each.where


def test_what_is_written_to_is_a_volume(objects: list[Manifest]) -> None:
    """The root file system is read-only: Ray's /tmp and the home of every process are not on it."""
    for each in pods(objects):
        mounts = {mount["mountPath"]: mount for mount in each.container["volumeMounts"]}
        assert {volume["name"] for volume in each.spec["volumes"]} <= {m["name"] for m in mounts.values()}
        assert not mounts["/tmp"].get("readOnly"), each.where
        homes = [
            variable["value"] for variable in each.container.get("env", []) if variable["name"] == "HOME"
        ]
        assert each.where == "redis" or (homes and set(homes) <= mounts.keys()), each.where


def test_only_autoscaled_heads_may_ask_kubernetes(objects: list[Manifest]) -> None:
    autoscaled = {name for name, cluster in ray_clusters(objects) if cluster.get("enableInTreeAutoscaling")}
    for each in pods(objects):
        asks = each.where.endswith(", head") and each.where.removesuffix(", head") in autoscaled
        assert each.spec["automountServiceAccountToken"] is asks, each.where


def test_requests_equal_limits(objects: list[Manifest]) -> None:
    for each in pods(objects):
        resources = each.container["resources"]
        assert resources["requests"] == resources["limits"], each.where
        assert {"cpu", "memory", "ephemeral-storage"} <= resources["limits"].keys(), each.where
    for name, cluster in ray_clusters(objects):
        if options := cluster.get("autoscalerOptions"):
            assert options["resources"]["requests"] == options["resources"]["limits"], name


def test_images_have_a_version(objects: list[Manifest]) -> None:
    for each in pods(objects):
        repository, _, tag = each.container["image"].rpartition(":")
        assert "/" in repository, each.where
        assert tag[0].isdigit(), each.where
        gpu_image = tag.endswith("-gpu")
        assert gpu_image or not each.gpus, each.where


def test_secrets_are_only_referred_to(rendered: dict[str, list[Manifest]]) -> None:
    for objects in rendered.values():
        assert not of_kind(objects, "Secret")
        for each in pods(objects):
            for variable in each.container.get("env", []):
                if any(word in variable["name"] for word in ("TOKEN", "PASSWORD", "KEY")):
                    assert "value" not in variable or variable["value"].startswith("/"), each.where
                source = variable.get("valueFrom", {}).get("secretKeyRef")
                assert source is None or source["name"] in SECRETS, each.where
            for volume in each.spec["volumes"]:
                assert "secret" not in volume or volume["secret"]["secretName"] in SECRETS, each.where


def test_ray_asks_for_a_token(objects: list[Manifest]) -> None:
    for name, cluster in ray_clusters(objects):
        assert cluster["authOptions"] == {"mode": "token"}, name
        assert cluster["rayVersion"] == "2.60.0", name
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", name


@pytest.mark.parametrize("overlay", LASTING)
def test_teachers_are_autoscaled_and_survive_their_head(
    overlay: str, rendered: dict[str, list[Manifest]]
) -> None:
    [(name, cluster)] = ray_clusters(rendered[overlay])
    assert cluster["enableInTreeAutoscaling"] is True, name
    assert cluster["autoscalerOptions"]["version"] == "v2", name
    security = cluster["autoscalerOptions"]["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "gcsFaultToleranceOptions" in cluster


@pytest.mark.parametrize("overlay", RUNS)
def test_runs_are_placed_whole_or_give_back_what_they_hold(
    overlay: str, rendered: dict[str, list[Manifest]]
) -> None:
    job = the(rendered[overlay], "RayJob")["spec"]
    cluster = job["rayClusterSpec"]
    assert "enableInTreeAutoscaling" not in cluster
    for group in cluster["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] > 0, group["groupName"]
    assert 0 < job["preRunningDeadlineSeconds"] < job["activeDeadlineSeconds"]
    assert job["shutdownAfterJobFinishes"] is True


def test_everybody_has_a_priority_and_may_pull(
    objects: list[Manifest], rendered: dict[str, list[Manifest]]
) -> None:
    known = {each["metadata"]["name"] for each in of_kind(rendered["namespace"], "PriorityClass")}
    for each in pods(objects):
        if each.where != "redis":  # from a public registry
            assert each.spec["priorityClassName"] in known, each.where
            assert each.spec["imagePullSecrets"] == [{"name": "registry"}], each.where


def test_models_are_read_from_their_volume_and_nobody_asks_the_hub(objects: list[Manifest]) -> None:
    for each in pods(objects):
        mounts = {mount["mountPath"]: mount for mount in each.container["volumeMounts"]}
        if "ray.io/node-type" in each.labels:
            variables = {v["name"]: v.get("value") for v in each.container["env"]}
            assert variables["HF_HUB_OFFLINE"] == "1", each.where
            assert mounts[variables["RLAD_MODELS"]]["readOnly"] is True, each.where
            assert not {"HF_TOKEN", "HF_TOKEN_PATH"} & variables.keys(), each.where
        elif each.where == "fetch-models":
            assert not mounts["/models"].get("readOnly")


def test_gpu_pods_say_where_they_go(objects: list[Manifest]) -> None:
    for each in pods(objects):
        if each.gpus:
            assert each.spec["nodeSelector"], each.where
            assert {toleration["key"] for toleration in each.spec["tolerations"]} == {"nvidia.com/gpu"}


def test_pods_leave_within_their_grace_period(objects: list[Manifest]) -> None:
    for each in pods(objects):
        if hook := each.container.get("lifecycle", {}).get("preStop"):
            command = hook["exec"]["command"]
            assert command[:3] == ["python", "-m", "services.run.leave"], each.where
            within = int(command[command.index("--within") + 1])
            assert within < each.spec["terminationGracePeriodSeconds"], each.where
    leaving = [each.where for each in pods(objects) if "lifecycle" in each.container]
    for name, cluster in ray_clusters(objects):
        assert {f"{name}, {group['groupName']}" for group in cluster["workerGroupSpecs"]} <= {*leaving}


def test_evictions_are_bounded(objects: list[Manifest]) -> None:
    """Every Ray pod is under one budget; a run, whose steps need all of them, gives none away."""
    budgets = of_kind(objects, "PodDisruptionBudget")
    for budget in budgets:
        covered = [each for each in pods(objects) if selects(budget["spec"]["selector"], each.labels)]
        assert covered, budget["metadata"]["name"]
        if budget["metadata"]["name"] == "run-workers":
            assert budget["spec"]["minAvailable"] == sum(each.most for each in covered)
    for each in pods(objects):
        if "ray.io/node-type" in each.labels:
            assert [b for b in budgets if selects(b["spec"]["selector"], each.labels)], each.where


def test_prometheus_finds_every_ray_pod(objects: list[Manifest]) -> None:
    monitors = of_kind(objects, "PodMonitor")
    for each in pods(objects):
        if "ray.io/node-type" not in each.labels:
            continue
        [monitor] = [m for m in monitors if selects(m["spec"]["selector"], each.labels)]
        wanted = {"metrics": 8080}
        if each.labels["ray.io/node-type"] == "head":
            wanted |= {"as-metrics": 44217, "dash-metrics": 44227}
        ports = {port["name"]: port["containerPort"] for port in each.container["ports"]}
        assert wanted.items() <= ports.items(), each.where
        assert wanted.keys() <= {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}


# Who reaches whom: the policies applied to the labels, as Kubernetes does it.

INGRESS = ({"kubernetes.io/metadata.name": "ingress-nginx"}, {"app.kubernetes.io/name": "ingress-nginx"})
PROMETHEUS = ({"kubernetes.io/metadata.name": "monitoring"}, {"app.kubernetes.io/name": "prometheus"})
OPERATOR = ({"kubernetes.io/metadata.name": "kuberay"}, {"app.kubernetes.io/name": "kuberay-operator"})
STRANGER = ({"kubernetes.io/metadata.name": "elsewhere"}, {"app": "other"})
HERE = {"kubernetes.io/metadata.name": "rlad"}
METRICS = {8080, 44217, 44227}
PORTS = {6379, 8000, 8265, 10001, 52365, *METRICS}


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def reachable(
    policies: list[Manifest], peer: tuple[dict[str, str], dict[str, str]], target: Pods
) -> set[int]:
    """Ports of `target` that a pod, given by its namespace's labels and its own, may connect to."""
    allowed: set[int] = set()
    for policy in policies:
        if not selects(policy["spec"]["podSelector"], target.labels):
            continue
        for rule in policy["spec"].get("ingress", []):
            if not rule.get("from") or any(_admits(source, peer) for source in rule["from"]):
                allowed |= {port["port"] for port in rule["ports"]} if "ports" in rule else PORTS
    return allowed & PORTS


def _admits(source: Manifest, peer: tuple[dict[str, str], dict[str, str]]) -> bool:
    namespace, labels = peer
    if "namespaceSelector" in source:
        in_namespace = selects(source["namespaceSelector"], namespace)
    else:
        in_namespace = namespace == HERE
    return in_namespace and selects(source.get("podSelector", {}), labels)


def test_who_reaches_what(rendered: dict[str, list[Manifest]]) -> None:
    everything = [each for objects in rendered.values() for each in objects]
    policies = of_kind(everything, "NetworkPolicy")
    assert any(policy["spec"]["podSelector"] == {} for policy in policies)  # so that only what is allowed is
    for overlay in WITH_PODS:
        ours = of_kind(rendered[overlay] + rendered["namespace"], "NetworkPolicy")
        for each in pods(rendered[overlay]):
            if "ray.io/node-type" not in each.labels:
                continue
            head, teacher = (
                each.labels["ray.io/node-type"] == "head",
                each.labels["rlad.io/cluster"] == "teacher",
            )
            same = (HERE, each.labels)
            other = (HERE, {**each.labels, "rlad.io/cluster": "run" if teacher else "teacher"})
            assert reachable(ours, STRANGER, each) == set(), each.where
            from_outside = {8000} if overlay in LASTING and not head else set()
            assert reachable(ours, INGRESS, each) == from_outside, each.where
            for namespace, labels in (INGRESS, PROMETHEUS, OPERATOR):  # by a label alone nobody comes in
                assert reachable(ours, (STRANGER[0], labels), each) == set(), each.where
                assert not namespace.items() <= STRANGER[0].items()
            assert reachable(ours, PROMETHEUS, each) == METRICS, each.where
            assert reachable(ours, OPERATOR, each) == ({8265} if head else set()), each.where
            assert reachable(ours, same, each) == PORTS, each.where
            assert reachable(ours, other, each) == set(), each.where


def test_a_run_with_a_remote_teacher_reaches_its_requests_port_alone(
    rendered: dict[str, list[Manifest]],
) -> None:
    [worker] = worker_groups(rendered["teacher-service"], "RayService").values()
    run = (HERE, {"rlad.io/cluster": "run"})
    together = rendered["teacher-service"] + rendered["training-remote-teacher"] + rendered["namespace"]
    assert reachable(of_kind(together, "NetworkPolicy"), run, worker) == {8000}
    ports = [
        port["port"]
        for policy in of_kind(rendered["training-remote-teacher"], "NetworkPolicy")
        if selects(policy["spec"]["podSelector"], run[1])
        for rule in policy["spec"].get("egress", [])
        if any(selects(to.get("podSelector", {}), worker.labels) for to in rule.get("to", []))
        for port in rule["ports"]
    ]
    assert ports == [8000]


def destinations(policies: list[Manifest], source: Pods) -> list[tuple[Manifest, set[int]]]:
    """Whither a pod may connect: the peers that its policies name, each with the ports; none is
    everywhere."""
    found = []
    for policy in policies:
        if selects(policy["spec"]["podSelector"], source.labels):
            for rule in policy["spec"].get("egress", []):
                ports = {port["port"] for port in rule.get("ports", [])}
                found += [(peer, ports) for peer in rule.get("to", [{}])]
    return found


def test_the_internet_is_for_what_fetches_models(rendered: dict[str, list[Manifest]]) -> None:
    """All others name pods and namespaces; the autoscaler's head private addresses, for the Kubernetes
    API."""
    for overlay in WITH_PODS:
        policies = of_kind(rendered[overlay] + rendered["namespace"], "NetworkPolicy")
        for each in pods(rendered[overlay]):
            outside = [peer["ipBlock"] for peer, _ in destinations(policies, each) if "ipBlock" in peer]
            assert all(peer for peer, _ in destinations(policies, each)), each.where
            if each.where == "fetch-models":
                assert [block["cidr"] for block in outside] == ["0.0.0.0/0"]
                assert "10.0.0.0/8" in outside[0]["except"]
            elif overlay in LASTING and each.labels.get("ray.io/node-type") == "head":
                assert all(ipaddress.ip_network(block["cidr"]).is_private for block in outside)
                assert outside
            else:
                assert not outside, each.where


def test_redis_is_for_the_teacher_alone(rendered: dict[str, list[Manifest]]) -> None:
    objects = rendered["teacher-service"] + rendered["namespace"]
    [redis] = [each for each in pods(objects) if each.where == "redis"]
    policies = of_kind(objects, "NetworkPolicy")
    assert reachable(policies, (HERE, {"rlad.io/cluster": "teacher"}), redis) == {6379}
    for peer in (STRANGER, PROMETHEUS, (HERE, {"rlad.io/cluster": "run"})):
        assert reachable(policies, peer, redis) == set()


# Does the recipe fit the pods?


@pytest.mark.parametrize("overlay", RUNS)
def test_the_entrypoint_is_plain_words(overlay: str, rendered: dict[str, list[Manifest]]) -> None:
    """The operator writes it into a shell command, where other signs would have a meaning."""
    entrypoint = the(rendered[overlay], "RayJob")["spec"]["entrypoint"]
    assert entrypoint == shlex.join(shlex.split(entrypoint))


@pytest.mark.parametrize("overlay", RUNS)
def test_every_role_has_room(overlay: str, rendered: dict[str, list[Manifest]]) -> None:
    config = recipe_of(rendered[overlay])
    groups = worker_groups(rendered[overlay], "RayJob")
    assert config.output.dir in {m["mountPath"] for g in groups.values() for m in g.container["volumeMounts"]}
    wanted = [
        ("rollout", config.rollout, config.rollout.num_replicas),
        ("learner", config.learner, config.learner.workers),
    ]
    wanted += [("teacher", served, served.num_replicas) for served in config.served_teachers.values()]
    for role, settings, count in wanted:
        fitting = [g for g in groups.values() if settings.node_labels.items() <= g.group["labels"].items()]
        assert len(fitting) == 1, f"{role} has no group of its own"
        [group] = fitting
        if settings.num_gpus:
            assert settings.num_gpus <= group.gpus, role
            assert count * settings.num_gpus == group.most * group.gpus, role
        else:
            assert group.gpus == 0, role
        assert settings.num_cpus <= float(group.container["resources"]["limits"]["cpu"]), role
    if overlay == "training-remote-teacher":
        assert config.teacher is not None
        assert (config.teacher.kind, "teacher" in groups) == ("http", False)


def test_names_in_the_manifests_lead_somewhere(rendered: dict[str, list[Manifest]]) -> None:
    """The volume of the runs, the Service that the operator makes of a RayService, and Redis."""
    claims = {each["metadata"]["name"] for each in of_kind(rendered["namespace"], "PersistentVolumeClaim")}
    for objects in rendered.values():
        for each in pods(objects):
            for volume in each.spec["volumes"]:
                assert volume.get("persistentVolumeClaim", {"claimName": "runs"})["claimName"] in claims
    service = the(rendered["teacher-service"], "RayService")["metadata"]["name"] + "-serve-svc"
    config = recipe_of(rendered["training-remote-teacher"])
    assert config.teacher.url == f"http://{service}:8000"
    ingress = the(rendered["teacher-service"], "Ingress")
    [path] = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": service, "port": {"number": 8000}}
    [(_, cluster)] = ray_clusters(rendered["teacher-service"])
    redis = the(rendered["teacher-service"], "Service")
    address = f"{redis['metadata']['name']}:{redis['spec']['ports'][0]['port']}"
    assert cluster["gcsFaultToleranceOptions"]["redisAddress"] == address


def test_the_words_after_set_are_assignments(rendered: dict[str, list[Manifest]]) -> None:
    for overlay in RUNS:
        words = the(rendered[overlay], "RayJob")["spec"]["entrypoint"].split()
        assert all("=" in value for flag, value in pairwise(words) if flag == "--set")

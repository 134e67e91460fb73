"""What Ray reads out of the manifests: pods of each group, least and most of them, with their GPUs and
labels."""

import pytest
from manifests import Manifest, ray_clusters
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr


@pytest.mark.parametrize(
    ("overlay", "groups"),
    [
        ("teacher-service", {"teacher": (2, 1, 4)}),
        (
            "training",
            {"services": (0, 1, 1), "rollout": (1, 3, 3), "teacher": (1, 2, 2), "learner": (3, 1, 1)},
        ),
        ("training-remote-teacher", {"services": (0, 1, 1), "rollout": (1, 3, 3), "learner": (3, 1, 1)}),
    ],
)
def test_the_autoscaler_knows_the_groups(
    overlay: str, groups: dict[str, tuple[int, int, int]], rendered: dict[str, list[Manifest]]
) -> None:
    [(_, spec)] = ray_clusters(rendered[overlay])
    cluster = {"metadata": {"name": "c", "namespace": "rlad"}, "spec": spec}
    types = _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
    assert types.pop("headgroup")["resources"]["CPU"] == 0
    assert {
        name: (int(each["resources"].get("GPU", 0)), each["min_workers"], each["max_workers"])
        for name, each in types.items()
    } == groups
    assert all(each["labels"]["rlad-role"] == name for name, each in types.items())

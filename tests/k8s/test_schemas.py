"""Every rendered object against the schema of its kind, with unknown fields refused.

KubeRay's CRDs lie in `kuberay/crds/` of a folder named by the variable RLAD_SHARED, or in `shared` beside the
checkout; without them those tests are skipped.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from manifests import OVERLAYS, Manifest

SHARED = Path(os.environ.get("RLAD_SHARED", Path(__file__).parents[3] / "shared"))
CRDS = SHARED / "kuberay" / "crds"
KUBERNETES = "1.34"
#: CRDs of others, which are not at hand: their fields are spelled out in test_policies.py and
# test_components.py.
UNCHECKED = {"PodMonitor", "Gateway", "HTTPRoute", "LocalQueue", "ClusterQueue", "ResourceFlavor"}
UNCHECKED |= {"WorkloadPriorityClass"}


@cache
def crd(kind: str) -> dict[str, Any]:
    """The schema of a KubeRay kind, which refuses fields it does not know: the API server would drop them."""
    if not CRDS.is_dir():
        pytest.skip(f"KubeRay's CRDs are not in {CRDS}")
    text = (CRDS / f"ray.io_{kind.lower()}s.yaml").read_text()
    definition = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    [schema] = [
        version["schema"]["openAPIV3Schema"]
        for version in definition["spec"]["versions"]
        if version["name"] == "v1"
    ]
    refuse_unknown(schema["properties"]["spec"])
    return schema


def refuse_unknown(schema: Any) -> None:
    if isinstance(schema, list):
        for each in schema:
            refuse_unknown(each)
    elif isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and not schema.get(
            "x-kubernetes-preserve-unknown-fields"
        ):
            schema.setdefault("additionalProperties", False)
        for each in schema.values():
            refuse_unknown(each)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_fits_its_schema(overlay: str, rendered: dict[str, list[Manifest]]) -> None:
    assert rendered[overlay]
    for each in rendered[overlay]:
        if each["apiVersion"] == "ray.io/v1":
            jsonschema.Draft4Validator(crd(each["kind"])).validate(each)
        elif each["kind"] not in UNCHECKED:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name not in ("namespace", "models")])
def test_a_misspelled_field_is_noticed(overlay: str, rendered: dict[str, list[Manifest]]) -> None:
    ray = next(each for each in rendered[overlay] if each["apiVersion"] == "ray.io/v1")
    field = "rayClusterConfig" if ray["kind"] == "RayService" else "rayClusterSpec"
    cluster = {**ray["spec"][field], "enableInTreeAutoscaler": True}
    with pytest.raises(jsonschema.ValidationError, match="enableInTreeAutoscaler"):
        jsonschema.Draft4Validator(crd(ray["kind"])).validate(
            {**ray, "spec": {**ray["spec"], field: cluster}}
        )

"""A recipe's run on Kubernetes: its pods from the recipe, so that the two cannot disagree.

In: a recipe. Out: the objects of ``k8s/base``, with the recipe in a ConfigMap and a group of workers for
each role. Starts nothing and asks no cluster.
Called by: cli. ``make k8s`` calls it through the command, for the overlays.

    groups      which pods a recipe's roles take, with their GPUs, CPUs and memory
    places      what the recipe has to say that runs there: labels, folders
    reaching    what its pods reach outside their cluster, and with which secret
    names       what is taken as a name or a label
    manifests   the objects
"""

from services.kubernetes.groups import Group, groups
from services.kubernetes.manifests import Wishes, fetch_manifests, run_manifests
from services.kubernetes.places import KubernetesError, placed

__all__ = ["Group", "KubernetesError", "Wishes", "fetch_manifests", "groups", "placed", "run_manifests"]

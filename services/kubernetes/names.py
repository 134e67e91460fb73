"""What Kubernetes and its operator take as a name, looked at before they are asked."""

import re

from services.kubernetes.places import KubernetesError

LONGEST = 47
"""Characters of a RayJob's name that KubeRay takes: it makes longer ones of it, of a cluster and services."""
_LONGEST_LABEL = 63


def check_name(name: str) -> None:
    """The name of a run's objects.

    Raises:
        KubernetesError: it is none.
    """
    # A service's name has to begin with a letter, and KubeRay makes some of this one.
    _check("--name", name, LONGEST, "[a-z]", "a letter")


def check_namespace(namespace: str) -> None:
    """The name of a namespace.

    Raises:
        KubernetesError: it is none.
    """
    _check("--namespace", namespace, _LONGEST_LABEL, "[a-z0-9]", "a letter or a digit")


def _check(option: str, name: str, longest: int, first: str, said: str) -> None:
    if len(name) > longest:
        raise KubernetesError(
            f"{option} {name} has {len(name)} characters, and {longest} are taken. Write a shorter one"
        )
    if not re.fullmatch(rf"{first}([-a-z0-9]*[a-z0-9])?", name):
        raise KubernetesError(
            f"{option} {name!r} is no name for Kubernetes. Write lower case letters, digits and -, {said} "
            "first and no - at the end"
        )

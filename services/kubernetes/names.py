"""What Kubernetes and its operator take as a name or a label, looked at before they are asked."""

import re
from typing import Final

from services.kubernetes.places import KubernetesError

LONGEST = 47
"""Characters of a RayJob's name that KubeRay takes: it makes longer ones of it, of a cluster and services."""
TEACHER: Final = "teacher"
"""The name of the teacher for many runs, and the label of its pods."""
_LONGEST_LABEL: Final = 63
_LONGEST_NAME: Final = 253
_WORD: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DOTTED: Final = (
    rf"{_WORD}(\.{_WORD})*",
    "lower case letters, digits, - and ., a letter or a digit at each end",
)
_OF_LABELS: Final = (
    "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
    "letters, digits, -, _ and ., a letter or a digit at each end",
)
_REPOSITORY: Final = r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*"
_HOST: Final = r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(:[0-9]+)?"
_TAG: Final = "(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64})?"
_IMAGE: Final = f"({_HOST}/)?{_REPOSITORY}(/{_REPOSITORY})*{_TAG}"


def check_image(image: str) -> None:
    """What pods run, such as registry.example.com/rlad:0.1.0-gpu.

    Raises:
        KubernetesError: it names no image.
    """
    if not re.fullmatch(_IMAGE, image):
        raise KubernetesError(
            f"--image {image!r} names no image. Write registry/name:tag, the name in lower case letters"
        )


def check_name(name: str) -> None:
    """The name of a run's objects.

    Raises:
        KubernetesError: it is none.
    """
    # A service's name has to begin with a letter, and KubeRay makes some of this one.
    said = "lower case letters, digits and -, a letter first and no - at the end"
    _check("--name", name, LONGEST, "[a-z]([-a-z0-9]*[a-z0-9])?", said)
    if name == TEACHER:
        raise KubernetesError(
            f"--name: {name} is what the service of k8s/overlays/teacher-service is called, and a run of "
            "that name would take its policies and budgets. Write another one"
        )


def check_namespace(namespace: str) -> None:
    """The name of a namespace.

    Raises:
        KubernetesError: it is none.
    """
    said = "lower case letters, digits and -, a letter or a digit first and no - at the end"
    _check("--namespace", namespace, _LONGEST_LABEL, _WORD, said)


def check_queue(queue: str) -> None:
    """The name of a LocalQueue, which is a label's value too.

    Raises:
        KubernetesError: it is none.
    """
    _check("--queue", queue, _LONGEST_LABEL, *_DOTTED)


def check_priority(priority: str, *, of_queue: bool) -> None:
    """The name of a PriorityClass; one of Kueue's is a label's value too.

    Raises:
        KubernetesError: it is none.
    """
    _check("--priority", priority, _LONGEST_LABEL if of_queue else _LONGEST_NAME, *_DOTTED)


def check_secret(secret: str) -> None:
    """The name of a secret, which is a folder's in the pods too.

    Raises:
        KubernetesError: it is none.
    """
    _check("--secret", secret, _LONGEST_NAME, *_DOTTED)


def check_node_label(key: str, value: str) -> None:
    """A label of nodes, such as nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3; its value may be empty.

    Raises:
        KubernetesError: it can be none.
    """
    option = f"--gpu-node {key}={value}:"
    prefix, slash, word = key.rpartition("/")
    if slash:
        _check(option, prefix, _LONGEST_NAME, *_DOTTED)
    _check(option, word, _LONGEST_LABEL, *_OF_LABELS)
    if value:
        _check(option, value, _LONGEST_LABEL, *_OF_LABELS)


def _check(option: str, name: str, longest: int, pattern: str, said: str) -> None:
    if len(name) > longest:
        raise KubernetesError(
            f"{option} {name} has {len(name)} characters, and {longest} are taken. Write a shorter one"
        )
    if not re.fullmatch(pattern, name):
        raise KubernetesError(f"{option} {name!r} is no name for Kubernetes. Write {said}")

"""What a run's pods reach outside their own cluster: teachers elsewhere, with a token out of a secret.

A NetworkPolicy knows addresses and pods, and no names. So a teacher's URL opens its port

    http://10.0.0.5:8000        to that address
    http://teacher:8000         to the pods of the run's namespace; of NAME.OTHER.svc to those of OTHER
    https://teacher.example     to everywhere

The head alone has the tokens: `rlad run` reads them there, and hands them to the process that asks.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from rlad_core.config import RunConfig
from rlad_core.config.teachers import RemoteTeacher
from services.kubernetes.names import check_secret
from services.kubernetes.places import VOLUMES, KubernetesError

SECRETS: Final = "/etc/rlad/secrets"
"""Folder of the head with a folder for each secret."""
_KEY: Final = "token"
Manifest = dict[str, Any]


def teachers_elsewhere(config: RunConfig) -> dict[str, RemoteTeacher]:
    """Those that the run asks, the reference among them, by their place in the recipe."""
    return {place: each for place, each in config.scorers.items() if isinstance(each, RemoteTeacher)}


def token_overrides(config: RunConfig, secrets: Mapping[str, str]) -> list[str]:
    """What ``--set`` would say of the tokens, which pods have in files.

    Args:
        secrets: by a teacher's place, the name of the one with its token.

    Raises:
        KubernetesError: a secret is for no teacher elsewhere, or a token is where pods have none.
    """
    elsewhere = teachers_elsewhere(config)
    if unknown := next((place for place in secrets if place not in elsewhere), None):
        known = f"Write one of {', '.join(elsewhere)}" if elsewhere else "Leave it out"
        raise KubernetesError(f"--secret: {unknown} is no teacher elsewhere that the run asks. {known}")
    for place, teacher in elsewhere.items():
        if place not in secrets and (lacking := _lacking(teacher)):
            raise KubernetesError(
                f"{place}.{lacking}: pods do not have it. Make a secret of the token (kubectl create secret "
                f"generic NAME --from-literal={_KEY}=...), and write --secret {place}=NAME"
            )
    for secret in secrets.values():
        check_secret(secret)
    return [
        override
        for place, secret in secrets.items()
        for override in (f"{place}.token_file={SECRETS}/{secret}/{_KEY}", f"{place}.token_env=null")
    ]


def _lacking(teacher: RemoteTeacher) -> str | None:
    """The field that names a token which pods do not have, and what it says."""
    if teacher.token_file is not None:  # it comes before the variable
        there = tuple(f"{folder}/" for folder in (*VOLUMES[:2], SECRETS))
        return None if teacher.token_file.startswith(there) else f"token_file ({teacher.token_file})"
    return None if teacher.token_env is None else f"token_env ({teacher.token_env})"


def secret_volumes(config: RunConfig) -> Iterator[tuple[Manifest, Manifest]]:
    """For each secret that the recipe's tokens are in, the head's volume and its place."""
    files = (each.token_file for each in teachers_elsewhere(config).values() if each.token_file is not None)
    folders = dict.fromkeys(
        str(PurePosixPath(file).parent) for file in files if file.startswith(f"{SECRETS}/")
    )
    for number, folder in enumerate(folders):
        name = f"secret-{number}"
        secret = {"secretName": PurePosixPath(folder).name, "defaultMode": 0o440}
        yield {"name": name, "secret": secret}, {"name": name, "mountPath": folder, "readOnly": True}


def egress_policy(config: RunConfig) -> Manifest | None:
    """The policy that lets the run's pods ask its teachers elsewhere; None: it has none.

    Raises:
        KubernetesError: a URL leads to the pod itself.
    """
    rules = [_rule(place, teacher.url) for place, teacher in teachers_elsewhere(config).items()]
    if not rules:
        return None
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "run-teachers", "labels": {"app.kubernetes.io/part-of": "rlad"}},
        "spec": {
            "podSelector": {"matchLabels": {"rlad.io/cluster": "run"}},
            "policyTypes": ["Egress"],
            "egress": [rule for number, rule in enumerate(rules) if rule not in rules[:number]],
        },
    }


def _rule(place: str, url: str) -> Manifest:
    parts = urlsplit(url)
    host = (parts.hostname or "").removesuffix(".")
    ports = [{"protocol": "TCP", "port": parts.port or (443 if parts.scheme == "https" else 80)}]
    address = _address(host)
    if host == "localhost" or (address is not None and (address.is_loopback or address.is_unspecified)):
        raise KubernetesError(
            f"{place}.url ({url}): in a pod that is the pod itself. Write an address that pods reach"
        )
    if address is not None:
        return {"to": [{"ipBlock": {"cidr": str(ipaddress.ip_network(address))}}], "ports": ports}
    names = host.split(".")
    if len(names) == 1:
        return {"to": [{"podSelector": {}}], "ports": ports}
    if names[2:3] == ["svc"]:
        selector = {"matchLabels": {"kubernetes.io/metadata.name": names[1]}}
        return {"to": [{"namespaceSelector": selector}], "ports": ports}
    return {"ports": ports}


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None

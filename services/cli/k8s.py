"""The command `k8s`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from rlad_core.config import ConfigError
from rlad_core.sizing.gpus import GPUS
from services.cli.console import complain


def k8s(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe: a YAML file, or the name of one that ships with rlad.")
    ],
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a field of the recipe, e.g. learner.lr=1e-5."
        ),
    ] = [],  # noqa: B006
    image: Annotated[str, typer.Option(help="What the pods run.")] = "registry.example.com/rlad:0.1.0-gpu",
    name: Annotated[str, typer.Option(help="Of all objects; by default the recipe's.")] = "",
    namespace: Annotated[str, typer.Option(help="By default kubectl's own.")] = "",
    gpu: Annotated[str, typer.Option(help=f"What the nodes have: {', '.join(GPUS)}.")] = "H100",
    gpus_per_node: Annotated[int, typer.Option(min=1, help="That one pod may have.")] = 8,
    gpu_node: Annotated[
        list[str], typer.Option(metavar="LABEL=VALUE", help="Of the nodes with the GPUs; may be given again.")
    ] = [],  # noqa: B006
    memory: Annotated[
        list[str],
        typer.Option(metavar="GROUP=GIB", help="Of a pod, in place of what is counted; may be given again."),
    ] = [],  # noqa: B006
    files: Annotated[
        list[str],
        typer.Option(
            metavar="HERE=THERE", help="Where pods have a folder of this machine; may be given again."
        ),
    ] = [],  # noqa: B006
    secrets: Annotated[
        list[str],
        typer.Option(
            "--secret",
            metavar="PLACE=NAME",
            help="Secret with the token (key: token) for a teacher elsewhere, e.g. teacher=teacher-token; "
            "may be given again.",
        ),
    ] = [],  # noqa: B006
    queue: Annotated[str, typer.Option(help="A LocalQueue of Kueue: the run waits suspended for it.")] = "",
    priority: Annotated[str, typer.Option(help="A PriorityClass; with --queue, one of Kueue's.")] = "",
    days: Annotated[
        float,
        typer.Option(
            min=0.05,
            max=24_855,  # whose seconds still are an int32
            help="Longest time of the run; then Kubernetes ends it. Started again, it continues.",
        ),
    ] = 7,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Write the Job that fetches the recipe's models, and not the run.")
    ] = False,
) -> None:
    """Write a run for KubeRay: groups, GPUs and memory from the recipe and what `rlad plan` counts.

    The recipe goes along in a ConfigMap, so that it and the pods cannot disagree. Several runs have
    their place in one namespace, each under its own name. docs/kubernetes.md says what a cluster needs
    before.

    Examples:

        rlad k8s qwen3-0.6b-kk-trrd --fetch > models.yaml

        rlad k8s qwen3-0.6b-kk-trrd > run.yaml

        rlad k8s qwen3-0.6b-kk-trrd --set seed=1 --set name=second --queue runs > second.yaml

        rlad k8s recipe.yaml --files data=/runs/data > run.yaml

        rlad k8s recipe.yaml --secret teacher=teacher-token > run.yaml
    """
    if gpu not in GPUS:
        raise typer.BadParameter(f"{gpu!r} is not known. Write one of {', '.join(GPUS)}", param_hint="--gpu")
    from services.kubernetes import KubernetesError, Wishes, fetch_manifests, groups, placed, run_manifests
    from services.kubernetes.places import hub_models, name_of, told, too_large
    from services.kubernetes.reaching import token_overrides

    try:
        config = told(recipe, overrides)
        wishes = Wishes(
            name or name_of(config), namespace, image, _pairs(gpu_node, "--gpu-node"), queue, priority, days
        )
        if fetch:
            objects = fetch_manifests(hub_models(config), wishes)
        else:
            tokens = token_overrides(config, _pairs(secrets, "--secret"))
            there = placed(recipe, [*overrides, *tokens], _pairs(files, "--files"))
            # Of the recipe as it is here: where its models will be in pods, their sizes cannot be read.
            if problems := too_large(config, GPUS[gpu]):
                raise ConfigError(str(recipe), problems)
            given = {group: _gib(size) for group, size in _pairs(memory, "--memory").items()}
            objects = run_manifests(there, groups(config, GPUS[gpu], gpus_per_node, given), wishes)
    except (ConfigError, KubernetesError) as error:
        complain(error)
        raise typer.Exit(2) from error
    sys.stdout.write(f"# Written by rlad k8s {recipe}.\n")
    yaml.dump_all(objects, sys.stdout, Dumper=_Readable, sort_keys=False, width=1000)


class _Readable(yaml.SafeDumper):
    """Texts of several lines as they are read, not with line ends in quotes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)


def _pairs(given: list[str], option: str) -> dict[str, str]:
    pairs = dict(each.split("=", 1) for each in given if "=" in each)
    if len(pairs) < len(given):
        raise typer.BadParameter("write NAME=VALUE, each name once", param_hint=option)
    return pairs


def _gib(size: str) -> int:
    number = size.removesuffix("Gi")
    if not (number.isascii() and number.isdecimal()) or not int(number):
        raise typer.BadParameter(f"{size!r} is no number of GiB. Write 64 or 64Gi", param_hint="--memory")
    return int(number)

"""What a recipe says of where it runs: a role's label, the volume of the runs, no file of this machine."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel

from rlad_core.config import RunConfig, load
from rlad_core.config.evaluation_recipe import arrived
from rlad_core.config.run import REFERENCE
from rlad_core.config.yaml_text import dump_values, one_line
from rlad_core.sections import code
from rlad_core.sections.paths import expanded
from rlad_core.sections.problems import Problem
from rlad_core.sizing import Gpu, needs, problems

_TELLING = ("kind", "name")
_TEXTS = ("system", "prefix", "chat_template", "chat_template_kwargs")
"""Fields that are read by a model, and name no file: Qwen3's /no_think is no path."""
LABEL = "rlad-role"
"""Label of a group's nodes; a recipe's ``node_labels`` choose by it."""
VOLUMES = ("/runs", "/models", "/etc/rlad")
"""Folders that pods have."""
_OF_VOLUMES = "/runs/... or /models/..."
START_S = 1800
"""Longest wait for services to load their models, once all pods are there; a recipe may have a longer one."""


class KubernetesError(ValueError):
    """A recipe that cannot run in pods as it is; the message says what to write."""


def roles(config: RunConfig) -> dict[str, str]:
    """Role by its place in the recipe. Those that have only a part of a GPU share one, and so a pod."""
    gpus = {"rollout": config.rollout.num_gpus, "learner": config.learner.num_gpus}
    gpus |= {place: teacher.num_gpus for place, teacher in config.served_teachers.items()}
    return {
        place: "shared" if 0 < gpus[place] < 1 else place.replace(".", "-")
        for place in ("rollout", *config.served_teachers, "learner")
        if place == REFERENCE or config.needs_teacher or place in ("rollout", "learner")
    }


def told(recipe: Path, overrides: list[str]) -> RunConfig:
    """The recipe, of which nothing is asked of this machine: others may have what it lacks.

    Raises:
        rlad_core.config.ConfigError: it is wrong.
    """
    # How many CPUs and GPUs there are is the groups'.
    cluster = ("cluster.address=auto", "cluster.num_cpus=null", "cluster.num_gpus=null")
    return load(recipe, [*overrides, *cluster])


def placed(recipe: Path, overrides: list[str], moved: Mapping[str, str] | None = None) -> RunConfig:
    """The recipe with what it needs in pods.

    Args:
        moved: where pods have what lies in a folder of this machine.

    Raises:
        rlad_core.config.ConfigError: it is wrong.
        KubernetesError: it names files that are on this machine alone, or labels that no pod has, or `moved`
            says where pods have none.
    """
    config = told(recipe, overrides)
    _refuse_labels(config)
    folder = config.output.dir if _is_below(config.output.dir, VOLUMES[:1]) else VOLUMES[0]
    ours = [f"output.dir={one_line(folder)}"]
    ours.append(f"cluster.start_timeout_s={max(START_S, config.cluster.start_timeout_s)}")
    ours += [f"{place}.node_labels.{LABEL}={role}" for place, role in roles(config).items()]
    config = told(recipe, [*overrides, *ours])
    if moved:
        there = _there(moved, config)
        said = _moved(config.model_dump(mode="json", exclude_unset=True), there)
        # Checked where it is; only pods can read it where it will be, code above all.
        config = arrived(RunConfig, said, {_moved(path, there): text for path, text in config.code.items()})
    paths = dict.fromkeys(_paths(config.model_dump(mode="json")))
    if here := [path for path in paths if not _is_below(path, VOLUMES)]:
        folders = dict.fromkeys(
            str(Path(path.rpartition(":")[0]).parent) for path in here if code.is_place(path)
        )
        beside = f"; of code the whole folder, {', '.join(folders)}" if folders else ""
        raise KubernetesError(
            f"the recipe names what pods do not have: {', '.join(here)}. Put it on the volume of the runs or "
            f"the models{beside}; then write --files HERE=THERE, where THERE is its place there "
            f"({_OF_VOLUMES})"
        )
    return config


def _refuse_labels(config: RunConfig) -> None:
    labels = {"rollout": config.rollout.node_labels, "learner": config.learner.node_labels}
    labels |= {place: teacher.node_labels for place, teacher in config.served_teachers.items()}
    for place in roles(config):
        if others := labels[place].keys() - {LABEL}:
            raise KubernetesError(
                f"{place}.node_labels: no pod has the label {', '.join(sorted(others))}; a role runs in the "
                f"pods of its group. Write --set {place}.node_labels={{}}, and --gpu-node for where these go"
            )


def recipe_text(config: RunConfig) -> str:
    """The recipe as YAML: what differs from the defaults, which the image has too."""
    return dump_values(_said(config))


def _said(value: Any) -> Any:
    """Values that are not the default, and what tells a section's class."""
    if isinstance(value, BaseModel):
        found = {}
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            if inner is not None and (
                name in _TELLING or inner != field.get_default(call_default_factory=True)
            ):
                found[name] = _said(inner)
            elif inner is None and field.get_default(call_default_factory=True) is not None:
                found[name] = None
        return found
    if isinstance(value, list | tuple):
        return [_said(each) for each in value]
    if isinstance(value, dict):
        return {key: _said(each) for key, each in value.items()}
    return value


def name_of(config: RunConfig) -> str:
    """The run's name as Kubernetes takes it: small letters, digits and -, 40 of them at most."""
    name = re.sub(r"[^a-z0-9]+", "-", config.name.lower()).strip("-")[:40].strip("-")
    return name if name[:1].isalpha() else f"run-{name}"


def hub_models(config: RunConfig) -> list[str]:
    """The recipe's models that come from the hub, each once.

    Raises:
        KubernetesError: there are none.
    """
    models = [
        config.policy.model,
        *(config.served_teachers[p].model for p in roles(config) if p in config.served_teachers),
    ]
    found = [model for model in dict.fromkeys(models) if ":" not in model and not model.startswith("/")]
    if not found:
        raise KubernetesError(
            f"{', '.join(dict.fromkeys(models))} come from no hub, so nothing is to be fetched"
        )
    return found


def too_large(config: RunConfig, gpu: Gpu) -> list[Problem]:
    """What does not fit on such GPUs, as `rlad plan` says it."""
    return list(problems(needs(config, gpu), gpu))


def _there(moved: Mapping[str, str], config: RunConfig) -> dict[str, str]:
    """Where pods have a folder of this machine, by the folder without links and ``..``."""
    paths = list(_paths(config.model_dump(mode="json")))
    found = {}
    for here, elsewhere in moved.items():
        if not _is_below(elsewhere, VOLUMES[:2]):
            raise KubernetesError(f"--files {here}={elsewhere}: pods have none. Write {_OF_VOLUMES} behind =")
        folder = os.path.realpath(expanded(here))
        if all(_moved(path, {folder: elsewhere}) == path for path in paths):
            raise KubernetesError(f"--files {here}={elsewhere}: the recipe names nothing in {folder}")
        found[folder] = elsewhere
    return found


def _moved(value: Any, there: Mapping[str, str]) -> Any:
    """The same with paths below a folder of `there` below its other place, of several the innermost one."""
    if isinstance(value, dict):
        return {key: each if key in _TEXTS else _moved(each, there) for key, each in value.items()}
    if isinstance(value, list):
        return [_moved(each, there) for each in value]
    if not isinstance(value, str) or not value.startswith("/"):
        return value
    path = PurePosixPath(value)
    for folder in (path, *path.parents):
        rest = path.relative_to(folder)
        if ".." not in rest.parts and (elsewhere := there.get(os.path.realpath(folder))) is not None:
            return str(PurePosixPath(elsewhere, rest))
    return value


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in _TEXTS:
                yield from _paths(each)
    elif isinstance(value, list):
        for each in value:
            yield from _paths(each)
    elif isinstance(value, str) and value.startswith("/") and "\n" not in value:
        yield value

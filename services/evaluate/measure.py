"""``rlad evaluate``: models answer, one after another, each through the services that a run has too."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import ray
from ray import serve
from rich.console import Console

from rlad_core.client import Endpoint, ServiceError
from rlad_core.config import resolve_model
from rlad_core.prompt_checks import DROPPED, Dropped, write_dropped
from rlad_core.prompt_stream import PromptTables
from services.base.stopping import sigterm_interrupts
from services.base.tokenizer import load_tokenizer
from services.clients.responses import Responses
from services.evaluate.fitting import fitted
from services.evaluate.plan import EvaluationPlan, LocalModel, Model, ServedModel
from services.evaluate.progress import AnswerProgress
from services.evaluate.respondents import Respondent, Sampling
from services.evaluate.respondents.chat import ChatEndpoint, base_of, check_served
from services.evaluate.respondents.deployed import DeployedModel, folder_identity
from services.evaluate.respondents.served import RolloutServiceModel, policy_of
from services.evaluate.session import continued, missing
from services.evaluate.store import AnswerStore, folder_name
from services.prompts.shown import left_out
from services.report.asked import keep_asked
from services.rollout import service as rollout
from services.serve.cluster import cluster, joined_address
from services.serve.deployment import deployed
from services.verifier import service as verifier
from services.verifier.settings import VerifierArgs

_CPUS = 6  # logical: Serve's proxy and controller, the verifier, and what is left of one model while it goes
_NAME = "evaluation"


class PlanError(Exception):
    """Found before anything started: a model that is not there, or prompts that do not fit it."""


@dataclass(frozen=True)
class Measured:
    """What a model's answers are: ANSWERS of all questions, and the folder where they are kept."""

    label: str
    folder: Path
    answers: pa.Table


class Stopped(Exception):
    """Ctrl-C or SIGTERM; says how much is kept."""


def measure(plan: EvaluationPlan, console: Console) -> list[Measured]:
    """Have every model answer what it has not answered yet.

    Raises:
        PlanError: see there; nothing was started.
        StoreError: a folder is in use or broken; nothing was started.
        Stopped: on the way; what was done is kept.
        IncompleteError: some responses could not be had; what was done is kept.
        DeploymentError, TimeoutError: a service did not start or answer; what was done is kept.
        OSError: it could not be kept any more.
    """
    plan, too_long = _fitting(plan, console)
    dropped = [*plan.dropped, *too_long]
    for line in left_out(dropped, _kept(dropped, plan.out)):
        console.print(line, style="dim", markup=False, soft_wrap=True)
    with ExitStack() as stores:
        entries = [_Entry(model, plan) for model in plan.models]
        for entry in entries:
            entry.store = stores.enter_context(entry.opened())
            keep_asked(entry.store.folder, plan.questions.asked, plan.questions.samples)
        ahead = [entry for entry in entries if entry.lacks]
        if ahead:
            _refuse_devices(plan, ahead)
            try:
                _answer(plan, ahead, console)
            except KeyboardInterrupt as interrupt:
                done = sum(entry.done for entry in entries)
                total = len(entries) * len(plan.questions.rows())
                raise Stopped(f"{done} of {total} responses are kept in {plan.out}") from interrupt
        for entry in entries:
            entry.store.merge()
        keys = plan.questions.rows()
        return [Measured(entry.label, entry.store.folder, entry.store.table(keys)) for entry in entries]


def _fitting(plan: EvaluationPlan, console: Console) -> tuple[EvaluationPlan, list[Dropped]]:
    try:
        return fitted(plan, console)
    except (ValueError, OSError) as error:
        raise PlanError(str(error)) from error


def _kept(dropped: list[Dropped], folder: Path) -> Path | None:
    """The file of all that is left out."""
    if not dropped:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    write_dropped(dropped, file := folder / DROPPED)
    return file


class _Entry:
    """A model with the respondent that stands for it and its store."""

    store: AnswerStore

    def __init__(self, model: Model, plan: EvaluationPlan) -> None:
        self.model, self.label, self._plan = model, model.label, plan
        try:
            self.respondent: Respondent = _respondent(model, plan)
        except (ServiceError, TimeoutError, ValueError, OSError) as error:
            raise PlanError(f"{model.label}: {error}") from error

    def opened(self) -> AnswerStore:
        sampling = self._plan.sampling
        settings = {
            **self.respondent.identity,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_response_length": sampling.max_tokens,
            "seed": sampling.seed,
        }
        folder = self._plan.out / folder_name(self.label, settings)
        return AnswerStore(folder, {"label": self.label, **settings}, judge_identity(self._plan.verifier))

    @property
    def lacks(self) -> bool:
        again, wanted = missing(self.store, self._plan.questions)
        return bool(again or wanted)

    @property
    def done(self) -> int:
        """Rows of ANSWERS that are there, of those that were asked for."""
        return sum(
            self.store.gold(prompt.prompt_id, prompt.subset, sample) == prompt.gold
            for prompt in self._plan.questions.prompts
            for sample in range(self._plan.questions.samples)
        )


def judge_identity(args: VerifierArgs) -> str:
    """What verdicts depend on: the tasks with their settings and code, the limits, and this version."""
    tasks = {name: [spec.place, spec.settings] for name, spec in args.tasks.items()}
    said = [tasks, args.code, args.time_limit_s, args.memory_limit_mib, version("rlad")]
    return hashlib.blake2b(json.dumps(said, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


def _respondent(model: Model, plan: EvaluationPlan) -> Respondent:
    if isinstance(model, LocalModel):
        args = model.engine
        folder = resolve_model(args.model)
        identity = folder_identity(folder) | {"dtype": args.dtype, "max_length": args.max_model_len}
        if args.engine_args:  # quantisation, for one: then it is another model that answers
            identity |= {"engine_args": args.engine_args}
        asked = model.recipe.policy
        of_prompts = {
            "chat_template",
            "chat_template_kwargs",
            *(["max_prompt_length"] if asked.cut_at else []),
        }
        identity |= asked.model_dump(mode="json", include=of_prompts, exclude_defaults=True)
        tables = PromptTables(load_tokenizer(folder), cut_at=asked.cut_at, chat=asked.chat)
        prompts = tables.table(plan.questions.distinct)
        sampling = plan.sampling
        most = sampling.max_tokens or args.max_model_len
        local = Sampling(sampling.temperature, sampling.top_p, most, sampling.seed)
        return DeployedModel(prompts, local, identity=identity, stop_token_ids=asked.stop_token_ids or ())
    if isinstance(model, ServedModel):
        policy = asyncio.run(policy_of(model.url, plan.token))
        return RolloutServiceModel(_reached(model.url, plan), policy, plan.sampling, plan.concurrency)
    url = base_of(model.url)
    asyncio.run(check_served(url, plan.token, [model.model]))
    return ChatEndpoint(_reached(url, plan), model.model, plan.sampling, plan.concurrency)


def _reached(url: str, plan: EvaluationPlan) -> Endpoint:
    return Endpoint(
        url,
        token=plan.token,
        call_timeout_s=plan.timeout_s,
        # The same again for repeated attempts.
        timeout_s=2 * plan.timeout_s,
        connections=plan.concurrency,
    )


def _refuse_devices(plan: EvaluationPlan, entries: list[_Entry]) -> None:
    """Refuse more GPUs than this machine has; those of a cluster that is joined are known once it is."""
    if joined_address(plan.cluster) is not None:
        return
    for entry in entries:
        if isinstance(entry.model, LocalModel):
            try:
                plan.devices.placed(entry.model.engine, _gpus_here())
            except ValueError as error:
                raise PlanError(str(error)) from error


def _answer(plan: EvaluationPlan, entries: list[_Entry], console: Console) -> None:
    start_limit_s = plan.cluster.start_timeout_s
    replicas = plan.devices.replicas or max(1, _gpus_here() // plan.devices.tensor_parallel)
    judge = f"{_NAME}-verifier"
    with (
        cluster(plan.cluster, wanted_cpus=_CPUS + 2 * replicas),
        # After Ray, which takes SIGTERM for itself when it starts.
        sigterm_interrupts(),
        deployed(
            {judge: verifier.build(plan.verifier)},
            timeout_s=start_limit_s,
            setting="--start-timeout",
            take_down=joined_address(plan.cluster) is not None,
        ) as url,
    ):
        for entry in entries:
            with _models_services(entry, plan, judge, url, console) as services:
                done, total = entry.done, len(plan.questions.rows())
                with AnswerProgress(console, entry.label, done=done, total=total) as progress:
                    asyncio.run(
                        continued(entry.store, entry.respondent, services, plan.questions, progress.told)
                    )


def _gpus_here() -> int:
    """GPUs that this process may use, as an embedded Ray finds them."""
    import torch  # takes a second, which a first sign of life does not wait for

    return torch.cuda.device_count()


@contextmanager
def _models_services(
    entry: _Entry, plan: EvaluationPlan, judge: str, url: str, console: Console
) -> Iterator[Responses]:
    """The services for one model; one that is deployed here goes with the block, for the next one's sake."""
    verdicts = serve.get_app_handle(judge)
    if not isinstance(entry.model, LocalModel):
        yield Responses(None, verdicts, plan.timeout_s)
        return
    there = int(ray.cluster_resources().get("GPU", 0))
    args = plan.devices.placed(entry.model.engine, there)
    where = f"{args.num_replicas} x {args.num_gpus:g} GPUs" if args.num_gpus else "CPUs"
    console.print(f"starting {entry.label} on {where}", style="dim", markup=False, soft_wrap=True)
    app = f"{_NAME}-rollout"
    with deployed(
        {app: rollout.build(args)},
        timeout_s=plan.cluster.start_timeout_s,
        setting="--start-timeout",
        port=urlsplit(url).port,
    ):
        assert isinstance(entry.respondent, DeployedModel)
        services = Responses(serve.get_app_handle(app), verdicts, plan.timeout_s)
        entry.respondent.begin(services, in_flight=args.max_num_seqs * args.num_replicas)
        yield services

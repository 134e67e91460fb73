"""Rollouts: a Serve deployment that samples groups of responses from the current policy.

One replica holds one vLLM engine, on CPUs or GPUs from the same code. Groups come back as Arrow with one
float32 log-prob and one policy version per token. New weights arrive in place, see `services.weights`;
running requests are held for the moment of the change and go on, which their tokens' versions show.

Which weights answer a request: it carries ``min_version``, and a replica that is older takes the current
version from the policy store before it serves. So a replica that started late or missed an update never
answers with older weights, and one whose update failed half-way answers nothing until Serve has replaced it.
"""

import asyncio
import hashlib
import os
from typing import Any

import pyarrow as pa
from ray import ObjectRef, serve
from ray.serve import Application
from transformers import AutoTokenizer

from rlad_core import schema
from services.policy_engine import PolicyEngine, Response, sampling_params
from services.rollout_settings import RolloutArgs, SamplingSettings, engine_args
from services.weights import Publication, ReplicaReport, policy_store, write_image

APP_NAME = "rollout"


class StaleReplicaError(RuntimeError):
    """The replica is older than the request wants, and no newer version can be had."""


@serve.deployment
class RolloutService:
    """One replica: an engine, its tokenizer, and which policy version it holds."""

    async def __init__(self, args: RolloutArgs) -> None:  # type: ignore[misc]  # Serve awaits it
        self._args = args
        self._replica = serve.get_replica_context().replica_id.unique_id
        self._tokenizer = AutoTokenizer.from_pretrained(args.model)
        self._fingerprint = schema.tokenizer_fingerprint(self._tokenizer.get_vocab())
        self._engine = PolicyEngine(engine_args(args), args.transfer)
        self._held = ReplicaReport(replica=self._replica, version=0, checksum=None)
        self._broken: str | None = None
        self._updating = asyncio.Lock()
        self._store = policy_store(args.policy_store) if args.policy_store else None
        await self._engine.label(0)
        # Before Serve routes anything here: a restarted replica must not begin with version 0.
        await self._pull_current()

    async def generate(self, prompts: pa.Table, sampling: SamplingSettings, min_version: int = 0) -> pa.Table:
        """Sample ``sampling.group_size`` responses for each prompt.

        Call it with one or a few prompts, so that finished groups flow on early. Cancelling the call frees
        the engine of its requests.

        Args:
            prompts: columns group_id, prompt_id, prompt_token_ids; others are not read.
            sampling: see `SamplingSettings`.
            min_version: oldest policy version that may begin the responses.

        Returns:
            ROLLOUTS table, group by group in the order of ``prompts``, by sample_index within.

        Raises:
            ValueError: a prompt leaves no room for a response, or has another tokenizer's ids.
            StaleReplicaError: the replica cannot get at ``min_version``.
            TimeoutError: after ``timeout_s`` seconds.
        """
        rows = self._checked(prompts)
        await self._reach(min_version)
        try:
            async with asyncio.timeout(self._args.timeout_s):
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._sample(row, sampling)) for row in rows]
        except TimeoutError as error:
            raise TimeoutError(
                f"waited {self._args.timeout_s:g} s for {sampling.group_size} responses each to {len(rows)} "
                f"prompts, the first of them of group {rows[0]['group_id']!r}"
            ) from error
        return self._table(rows, [task.result() for task in tasks])

    async def policy_version(self) -> ReplicaReport:
        """What this replica serves with."""
        return self._held

    async def update_weights(self, version: int) -> ReplicaReport:
        """Load ``version`` from the store, unless it is what the replica holds already. Idempotent.

        Raises:
            RuntimeError: naming the replica, with the reason.
        """
        try:
            if self._store is None:
                raise ValueError("it was started without policy_store")
            await self._install(await self._wait_for_store(self._store.get.remote(version)))
        except Exception as error:
            raise RuntimeError(
                f"replica {self._replica} could not load policy version {version}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return self._held

    async def check_health(self) -> None:
        """Asked by Serve, which replaces the replica if this raises.

        Raises:
            RuntimeError: if an update failed half-way.
            vllm.v1.engine.exceptions.EngineDeadError: if the engine's process has ended.
        """
        self._refuse_if_broken()
        await self._engine.check_health()

    # Weights

    async def _reach(self, min_version: int) -> None:
        """Hold at least ``min_version``, pulling the current version if need be."""
        self._refuse_if_broken()
        if self._held["version"] < min_version:
            await self._pull_current()
        if self._held["version"] < min_version:
            raise StaleReplicaError(
                f"replica {self._replica} holds policy version {self._held['version']}, the request wants "
                f"{min_version} or newer, and the policy store has none; publish it first"
            )

    async def _pull_current(self) -> None:
        # Backends that push reach a replica only through the learner's next update.
        if self._store is None or self._args.transfer != "object_store":
            return
        publication = await self._wait_for_store(self._store.current.remote())
        if publication is not None:
            await self._install(publication)

    async def _wait_for_store(self, answer: ObjectRef) -> Any:
        try:
            async with asyncio.timeout(self._args.update_timeout_s):
                return await answer
        except TimeoutError as error:
            raise TimeoutError(
                f"waited {self._args.update_timeout_s:g} s for the policy store {self._args.policy_store!r}"
            ) from error

    async def _install(self, publication: Publication) -> None:
        async with self._updating:
            self._refuse_if_broken()
            if (self._held["version"], self._held["checksum"]) == (publication.version, publication.checksum):
                return
            image = await self._wait_for_store(publication.image)
            path = await asyncio.to_thread(write_image, publication, image)
            try:
                async with asyncio.timeout(self._args.update_timeout_s):
                    await self._engine.install(publication.version, {"path": path})
            except BaseException as error:
                # Part of the weights may be new and the engine is paused: nothing may be sampled from it.
                self._broken = f"loading policy version {publication.version} failed: {error!r}"
                self._engine.shutdown()
                raise
            finally:
                os.unlink(path)
            self._held = ReplicaReport(
                replica=self._replica, version=publication.version, checksum=publication.checksum
            )

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise RuntimeError(
                f"replica {self._replica} has unsound weights and will be replaced: {self._broken}"
            )

    # Sampling

    def _checked(self, prompts: pa.Table) -> list[dict[str, Any]]:
        """The prompts as rows with ``prompt_token_ids`` as int32 arrays."""
        found = schema.fingerprint_of(prompts)
        if found is not None and found != self._fingerprint:
            raise ValueError(
                f"the prompts were made with tokenizer {found}, the policy has {self._fingerprint}: "
                "token ids mean nothing across tokenizers"
            )
        ids = prompts.column("prompt_token_ids")
        rows = prompts.select(["group_id", "prompt_id"]).to_pylist()
        for row, tokens in zip(rows, ids, strict=True):
            row["prompt_token_ids"] = tokens.values.to_numpy()
            if len(row["prompt_token_ids"]) >= self._args.max_model_len:
                raise ValueError(
                    f"the prompt of group {row['group_id']!r} has {len(row['prompt_token_ids'])} tokens and "
                    f"leaves none of max_model_len {self._args.max_model_len} for a response"
                )
        return rows

    async def _sample(self, row: dict[str, Any], sampling: SamplingSettings) -> list[Response]:
        params = sampling_params(
            group_size=sampling.group_size,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            seed=None if sampling.seed is None else _group_seed(sampling.seed, row["group_id"]),
        )
        return await self._engine.sample(row["prompt_token_ids"], params)

    def _table(self, rows: list[dict[str, Any]], groups: list[list[Response]]) -> pa.Table:
        samples = [
            (row, index, response)
            for row, responses in zip(rows, groups, strict=True)
            for index, response in enumerate(responses)
        ]
        return schema.build(
            schema.ROLLOUTS,
            {
                "group_id": [row["group_id"] for row, _, _ in samples],
                "sample_index": [index for _, index, _ in samples],
                "prompt_id": [row["prompt_id"] for row, _, _ in samples],
                "prompt_token_ids": [row["prompt_token_ids"] for row, _, _ in samples],
                "response_token_ids": [response.token_ids for _, _, response in samples],
                "rollout_logprobs": [response.logprobs for _, _, response in samples],
                "policy_versions": [response.versions for _, _, response in samples],
                "finish_reason": [response.finish_reason for _, _, response in samples],
                "response": self._tokenizer.batch_decode(
                    [response.token_ids for _, _, response in samples], skip_special_tokens=True
                ),
            },
            tokenizer_fingerprint=self._fingerprint,
        )


def _group_seed(seed: int, group_id: str) -> int:
    """Seed of a group's first response; vLLM gives the next responses the next seeds."""
    digest = hashlib.sha256(f"{seed}:{group_id}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def build(args: RolloutArgs) -> Application:
    """The application, for ``serve.run`` or a Serve config file."""
    environment = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
    if not args.num_gpus:
        # Otherwise every engine on a host pins its threads to the same cores.
        environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(args.threads)}
    return RolloutService.options(  # type: ignore[attr-defined]  # the decorator is untyped to mypy
        num_replicas=args.num_replicas,
        max_ongoing_requests=args.max_ongoing_requests,
        ray_actor_options={
            "num_cpus": args.num_cpus,
            "num_gpus": args.num_gpus,
            "runtime_env": {"env_vars": environment},
        },
        health_check_period_s=10,
        health_check_timeout_s=60,
        graceful_shutdown_timeout_s=30,
    ).bind(args)

"""``rlad learn``: a recipe's learner on recorded experience."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from rlad_core import recorded, schema
from rlad_core.config import RunConfig, resolve_model
from rlad_core.config.teachers import ServeTeacher
from services.base.failures import plain
from services.base.stopping import sigterm_interrupts
from services.base.tokenizer import load_tokenizer
from services.run import folder
from services.run.errors import RefusedError, RunError
from services.run.initial_policy import starting_folder
from services.run.preparing import RunOutcome, finished, held, prepared, reported
from services.run.replay import replay
from services.run.watch import Watcher


def learn(
    config: RunConfig,
    places: Sequence[Path],
    *,
    resume: bool = False,
    restartable: bool = False,
    watcher: Watcher,
) -> RunOutcome:
    """Train on recorded steps; the run's folder is as that of `rlad run`, without evaluations.

    Args:
        config: checked.
        places: files of recorded steps, or folders that have some.
        resume: go on from the last checkpoint.
        restartable: resume where it was begun before, else begin it.
        watcher: shows progress.

    Raises:
        RefusedError: nothing was started: the folder is in the way, there is nothing to resume, there is no
            such file, an objective cannot be computed from it, a sequence is longer than a micro-batch, or
            its tokens are not the policy's.
        RunError: a rank failed.
    """
    run_dir = Path(config.run_dir).absolute()
    if restartable:
        resume = folder.begun(run_dir, config)
    folder.check(run_dir, resume=resume)
    files, made_with = _files(config, places)
    with sigterm_interrupts(), held(run_dir, watcher.say) as lease:
        config, remarks = prepared(config, run_dir, resume=resume, files=files)
        for remark in remarks:
            watcher.say(remark)
        if resume and (outcome := finished(config, run_dir, watcher.say)) is not None:
            return outcome
        steps, there = config.total_steps, len(files)
        passes = f", {steps / there:g} times each" if steps > there else ""
        watcher.say(f"{steps} steps on {min(there, steps)} recorded ones{passes}")
        try:
            with watcher:
                policy_folder = starting_folder(config, run_dir, resolve_model)
                _refuse_other_tokens(policy_folder, made_with)
                replay(config, policy_folder, files, run_dir, watcher, lease)
        except ProcessRaisedException as error:
            raise RunError(f"the learner failed: {plain(str(error))}") from error
        except ProcessExitedException as error:
            raise RunError(f"a rank of the learner has ended: {error}") from error
        report = reported(run_dir, watcher.say)
    return RunOutcome(run_dir, watcher.steps_done >= config.total_steps, watcher.steps_done, report)


def _files(config: RunConfig, places: Sequence[Path]) -> tuple[list[Path], dict[str, Path]]:
    """The recorded steps, and one of each tokenizer that they were made with, by its fingerprint.

    Every objective that a step is trained on with can be computed from it, and a pass has room for it.
    """
    made_with: dict[str, Path] = {}
    try:
        files = recorded.files_of(places)
        if not files:
            raise RefusedError("there is no recorded step to train on. Write --experience FILE")
        for index, stage in enumerate(config.stages):
            if stage.objective.hidden_alpha(0) is not None:
                raise RefusedError(
                    f"stages.{index}.objective.source: hidden states are pulled from a teacher's service "
                    "while a run trains, and recorded steps have none. Write source: top_k"
                )
            if stage.until is not None:
                raise RefusedError(
                    f"stages.{index}.until: recorded steps are trained on as they come, and nothing is "
                    "evaluated between. Write null"
                )
        # Of a teacher that is somewhere else nobody knows here what it could have told.
        served = [each for each in config.teacher_sections.values() if isinstance(each, ServeTeacher)]
        asks_for_ends = any(each.engine == "torch" for each in served)
        stages = defaultdict(set)
        for step in range(config.total_steps):
            stages[step % len(files)].add(config.position(step).index)
        for place, indices in stages.items():
            found = recorded.read(files[place])
            _refuse_longer(config, found)
            if (fingerprint := schema.fingerprint_of(found.table)) is not None:
                made_with.setdefault(fingerprint, found.file)
            for index in sorted(indices):
                found.check(
                    config.stages[index].objective,
                    config.policy_teacher,
                    drop_uninformative=config.rollout.drop_uninformative,
                )
                if asks_for_ends:
                    found.check_ends(config.stages[index].objective)
    except recorded.RecordedError as error:
        raise RefusedError(str(error)) from error
    return files, made_with


def _refuse_longer(config: RunConfig, found: recorded.RecordedStep) -> None:
    """Now, and not after all steps before it."""
    own, room = config.policy_teacher, config.learner.tokens_per_micro_batch
    longest = found.longest(privileged=own is not None and own.prefix is not None)
    if longest > room:
        raise RefusedError(
            f"learner.tokens_per_micro_batch ({room}): {found.file} has a sequence of {longest} tokens. "
            f"Write {longest} or more"
        )


def _refuse_other_tokens(policy_folder: str, made_with: Mapping[str, Path]) -> None:
    """Ids of another tokenizer are ids too, of other words."""
    own = schema.tokenizer_fingerprint(load_tokenizer(policy_folder).get_vocab())
    for fingerprint, file in made_with.items():
        if fingerprint != own:
            raise RefusedError(
                f"policy.model: {file} was recorded with another tokenizer ({fingerprint}) than that of "
                f"{policy_folder} ({own}), for which its token ids are other words. Write the model that it "
                "was recorded with, or one with the same tokenizer"
            )

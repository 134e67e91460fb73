"""What rank 0 has recorded of a step, by a real journal."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from made_up_experience import experience, small_config

from rlad_core.assembly import plan_shards
from rlad_core.recorded import labelled, read
from services.experience.shards import Shard, StepFacts
from services.learner.actors import Actors
from services.learner.recording import StepRecorder
from services.learner.step_times import StepTimes
from services.report.journal import Journal

pytestmark = pytest.mark.slow

CONFIG = small_config(Path("nowhere"))


@pytest.fixture
def actors(ray_cluster: None, tmp_path: Path) -> Iterator[Actors]:
    """The journal alone is asked anything."""
    journal = ray.remote(Journal).options(num_cpus=0).remote(str(tmp_path))
    ray.get(journal.begin.remote(0))
    yield Actors(journal, journal, journal, timeout_s=60.0)
    ray.kill(journal)


def record(recorder: StepRecorder, step: int) -> None:
    table, groups = experience()
    weights = CONFIG.stages[0].objective.token_weights
    [plan] = plan_shards(table, groups=groups, mini_batches=1, ranks=1, token_weights=weights)
    facts = StepFacts(numbers={"trained_tokens": 9.0})
    whole = ray.put(labelled(table, (), None, groups))
    shard = Shard(step, ray.put(table), plan, facts, whole=whole)
    recorder.record(step, shard, {}, StepTimes(1.0, [], {}, 0.0, {}))


def test_a_step_s_experience_is_there_before_a_checkpoint_behind_it(actors: Actors, tmp_path: Path) -> None:
    recorder = StepRecorder(CONFIG, actors)
    for step in range(2):
        record(recorder, step)
    recorder.settle()
    for step in range(2):
        assert len(read(tmp_path / "experience" / f"step-{step:06d}.arrows").table) == len(experience()[0])


@pytest.mark.parametrize("then", ["record", "settle"])
def test_experience_that_cannot_be_written_stops_the_run(actors: Actors, tmp_path: Path, then: str) -> None:
    """It would be missing without a word, and `rlad learn` would train on what is left."""
    (tmp_path / "experience").write_text("no folder")
    recorder = StepRecorder(CONFIG, actors)
    record(recorder, 0)
    with pytest.raises(OSError, match="experience"):
        record(recorder, 1) if then == "record" else recorder.settle()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1

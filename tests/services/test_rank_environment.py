"""What ranks are started with."""

import pytest

from rlad_core.config import load
from services.learner.freed_memory import KEEPS_FREED_MEMORY
from services.learner.rank_environment import GIVES_CORES_AWAY
from services.learner.trainer import build_trainer


@pytest.mark.parametrize(
    ("gpus", "staleness", "wanted"),
    [
        (0, 0, KEEPS_FREED_MEMORY),
        (0, 1, {**KEEPS_FREED_MEMORY, **GIVES_CORES_AWAY}),  # engines work beside it
        (1, 1, {}),
    ],
)
def test_ranks_are_started_so(gpus: int, staleness: int, wanted: dict[str, str]) -> None:
    config = load("kk-tiny-grpo", [f"learner.num_gpus={gpus}", f"rollout.max_staleness={staleness}"])
    environment = build_trainer(config, "m").run_config.worker_runtime_env
    assert environment == {"env_vars": wanted}

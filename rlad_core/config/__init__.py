"""One run = one YAML recipe = one tree, checked before anything starts.

>>> from rlad_core.config import load
>>> config = load("kk-tiny-trrd", overrides=["learner.lr=1e-5", "stages.0.steps=5"])  # doctest: +SKIP
"""

from rlad_core.config.errors import NOT_SET, ConfigError, Problem
from rlad_core.config.judging import VerifierConfig
from rlad_core.config.loading import assign, dump, load, parse, validate
from rlad_core.config.models import SHIPPED, resolve_model
from rlad_core.config.objectives import GRPO, KDRL, OPD, SFT, TRRD, Objective
from rlad_core.config.run import RunConfig, Stage, StagePosition
from rlad_core.config.sections import (
    ClusterConfig,
    EvaluationConfig,
    HttpTeacher,
    LearnerConfig,
    OpenAITeacher,
    OutputConfig,
    PolicyConfig,
    RolloutConfig,
    ServeTeacher,
    Teacher,
    TelemetryConfig,
    WeightsConfig,
)
from rlad_core.config.tasks import (
    EvaluationProblems,
    EvaluationPuzzles,
    KnightsKnavesTask,
    MathTask,
    Part,
    ProblemFile,
    Task,
    TrainProblems,
    TrainPuzzles,
)

__all__ = [
    "GRPO",
    "KDRL",
    "NOT_SET",
    "OPD",
    "SFT",
    "SHIPPED",
    "TRRD",
    "ClusterConfig",
    "ConfigError",
    "EvaluationConfig",
    "EvaluationProblems",
    "EvaluationPuzzles",
    "HttpTeacher",
    "KnightsKnavesTask",
    "LearnerConfig",
    "MathTask",
    "Objective",
    "OpenAITeacher",
    "OutputConfig",
    "Part",
    "PolicyConfig",
    "Problem",
    "ProblemFile",
    "RolloutConfig",
    "RunConfig",
    "ServeTeacher",
    "Stage",
    "StagePosition",
    "Task",
    "Teacher",
    "TelemetryConfig",
    "TrainProblems",
    "TrainPuzzles",
    "VerifierConfig",
    "WeightsConfig",
    "assign",
    "dump",
    "load",
    "parse",
    "resolve_model",
    "validate",
]

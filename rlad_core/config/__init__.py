"""One run = one YAML recipe = one tree, checked before anything starts.

In: a file and ``--set`` assignments. Out: a `RunConfig`, or a `ConfigError` that names every field at fault
and what to write there. Anybody may read one; only `loading` makes one.

>>> from rlad_core.config import load
>>> config = load("kk-tiny-trrd", overrides=["learner.lr=1e-5", "stages.0.steps=5"])  # doctest: +SKIP
"""

from rlad_core.config.cluster import ClusterConfig
from rlad_core.config.engines import (
    EngineSettings,
    ReplicaSettings,
    RolloutEngine,
    TeacherEngine,
    VerifierSettings,
)
from rlad_core.config.evaluation_recipe import EvaluationRecipe
from rlad_core.config.loading import assign, assigned, dump, load, validate, validate_evaluation
from rlad_core.config.lora import LoraConfig
from rlad_core.config.models import SHIPPED, UNFINISHED, is_elsewhere, place_of, resolve_model
from rlad_core.config.run import RunConfig, Stage, StagePosition
from rlad_core.config.settings import (
    EvaluationConfig,
    LearnerConfig,
    PolicyConfig,
    RolloutConfig,
    WeightsConfig,
)
from rlad_core.config.teachers import (
    HttpTeacher,
    OpenAITeacher,
    OwnTeacher,
    PolicyTeacher,
    RemoteTeacher,
    ServeTeacher,
    TeacherSection,
)
from rlad_core.config.telling import OutputConfig, TelemetryConfig
from rlad_core.config.yaml_text import parse
from rlad_core.sections.problems import NOT_SET, ConfigError, Problem

__all__ = [
    "NOT_SET",
    "SHIPPED",
    "UNFINISHED",
    "ClusterConfig",
    "ConfigError",
    "EngineSettings",
    "EvaluationConfig",
    "EvaluationRecipe",
    "HttpTeacher",
    "LearnerConfig",
    "LoraConfig",
    "OpenAITeacher",
    "OutputConfig",
    "OwnTeacher",
    "PolicyConfig",
    "PolicyTeacher",
    "Problem",
    "RemoteTeacher",
    "ReplicaSettings",
    "RolloutConfig",
    "RolloutEngine",
    "RunConfig",
    "ServeTeacher",
    "Stage",
    "StagePosition",
    "TeacherEngine",
    "TeacherSection",
    "TelemetryConfig",
    "VerifierSettings",
    "WeightsConfig",
    "assign",
    "assigned",
    "dump",
    "is_elsewhere",
    "load",
    "parse",
    "place_of",
    "resolve_model",
    "validate",
    "validate_evaluation",
]

"""What a recipe says about judging reaches the verifier service."""

from rlad_core.config import validate
from rlad_core.config.judging import VerifierConfig
from services.app import verifier_args


def test_every_setting_of_the_recipe_arrives() -> None:
    settings = {"workers": 7, "time_limit_s": 2.5, "memory_limit_mib": 100}
    assert settings.keys() == VerifierConfig.model_fields.keys()
    recipe = {
        "name": "run",
        "policy": {"model": "tiny:student", "init": "random", "max_length": 512},
        "task": {"name": "knights_knaves", "train": {"people": [2]}, "evaluation": {"people": [2]}},
        "rollout": {"max_response_length": 256, "timeout_s": 1234.0},
        "verifier": settings,
        "stages": [{"steps": 1, "objective": {"kind": "grpo"}}],
    }
    args = verifier_args(validate(recipe, source="test"))
    assert args.model_dump(include=settings.keys()) == settings
    assert (args.run, list(args.tasks)) == ("run", ["knights_knaves"])
    # Groups of a step wait for each other's checks: the run's own patience is the limit, and no request is
    # too large, since an evaluation is one.
    assert args.limits.timeout_s == 1234.0
    assert args.limits.max_responses_per_request >= 10**9

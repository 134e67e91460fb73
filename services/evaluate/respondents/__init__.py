"""Who answers: a model that is deployed here, a rollout service of ours, an OpenAI-compatible endpoint.

In: prompts with the numbers of their samples. Out: an `Answer` for each. Called by: measure, evaluator.
"""

from services.evaluate.respondents.interface import Answer, Respondent, Sampling, Wanted

__all__ = ["Answer", "Respondent", "Sampling", "Wanted"]

"""Evaluation: a model's accuracy on held-out prompts.

In: an `EvaluationRecipe` (a run's recipe is one), and the policy version that is to answer. Out:
`EvaluationRow`s. Called by: the command `rlad evaluate`, and the learner through the actor that a run starts.
"""

"""Evaluation: models here and elsewhere answer held-out prompts, and a verifier judges what they write.

    plan.py         what was asked for           respondents/   who answers: here, or elsewhere
    questions.py    prompts by subset            judging.py     responses with their verdicts
    session.py      asks for what is missing     store.py       keeps it, in Parquet
    measure.py      all of it, for the command   evaluator.py   the same for a run, as an actor

In: an `EvaluationPlan`; or a run's recipe and the policy version that is to answer. Out: ANSWERS of
`rlad_core.evaluation`, and the `EvaluationRow`s that they come to.
Called by: cli, run. A learner calls it through the actor that a run starts.
"""

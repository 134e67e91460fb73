"""What the OpenAI-compatible routes of teacher and rollouts share: prompts, answers, the list of models.

In: bodies in OpenAI's forms. Out: token ids, and answers in OpenAI's forms.
May be called by: teacher and rollout.
"""

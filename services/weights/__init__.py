"""New policy versions: publishing one, pushing one, and how an engine takes it.

In: a state dict under Hugging Face names and its version. Out: every rollout replica holds it, or an error.
Called by: clients, compare, learner, rollout, run. The learner publishes, rollout takes, run keeps the store.
"""

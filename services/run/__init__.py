"""A run from recipe to report: what is deployed, who waits for whom, what a person sees meanwhile.

In: a checked recipe. Out: the run's folder, and how far it came.
Called by: cli, compare. Kubernetes calls `leave`.
"""

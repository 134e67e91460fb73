"""What knows vLLM and its metrics, for the two rooms that run an engine.

In: settings of a replica. Out: arguments for CPUs, labels of metrics.
May be called by: weights, rollout, teacher.
"""

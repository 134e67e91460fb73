"""What knows vLLM's processes and metrics, for the two rooms that run an engine.

In: settings of a replica. Out: arguments for CPUs, labels of metrics, processes that end with their parent.
May be called by: weights, rollout, teacher.
"""

"""What engines of vLLM have in common: their processes, metrics, sleep, padded rows, hashes of weights.

In: settings of a replica, an engine. Out: its arguments and environment, labels of metrics, hashes.
Called by: rollout, teacher, weights.
"""

"""What every room stands on: telemetry, tokenizers, whole files, how a process starts, stops and fails.

In: spans, counts, log lines, what files are to hold. Out: metrics of Ray's agent or Prometheus, JSON lines,
traces, whole files, progress bars, names and ports that no other has.
Called by: every room above. Calls none.
"""

"""What every room stands on: telemetry, a model's tokenizer, loading.

In: spans, counts, log lines. Out: metrics of Ray's agent or Prometheus, JSON lines.
May be called by every room; calls none.
"""

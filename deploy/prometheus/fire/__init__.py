"""Real faults, one for each alert that two cores can produce, until Prometheus says that it fires.

`leak` is a node whose memory ends, `service` a teacher that is asked wrongly and too much, `run` a training
that goes astray and then hangs. What needs Kubernetes or GPUs is left to promtool.
"""

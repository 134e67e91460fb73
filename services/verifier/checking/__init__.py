"""Judging responses in worker processes that can be killed, whatever code a user brings.

`pool` hands chunks of checks to workers, `process` is one of them seen from the service, `forks` is what they
are forked from, `worker` what runs inside: it makes the tasks (`loading`), puts back what a check left behind
(`surroundings`), and lets nothing out but plain values (`verdicts`). `traces` says where one hung or crashed.
"""

"""Judging responses in worker processes that can be killed, whatever code a user brings.

`pool` hands chunks of checks from its `queue` to workers, in a thread of its own (`loop_thread`). `post` is a
worker with its chunk, `process` the process, which `forks` makes; by `wire` and `progress` they speak, in
`messages`. `worker` is what runs inside: it makes the tasks (`loading`), puts back what a check left behind
(`surroundings`), and lets nothing out but plain values (`verdicts`). `traces` says where one hung or crashed,
`endings` by what it ended.
"""

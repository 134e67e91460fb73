"""The learner: Ray Train ranks that turn shards into new policy versions.

In: shards, one per step and rank. Out: versions published, a record of each step, checkpoints, the exported
model.
Called by: run. It builds the trainer.
"""

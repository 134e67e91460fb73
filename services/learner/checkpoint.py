"""Names of what a checkpoint is made of, for those who look for one without the learner."""

STATE_FILE = "rlad-state.json"
"""In a checkpoint: the steps done and the frontier of the prompts."""
FORKED = "forked"
"""In a run's folder: the checkpoint of another run that this one goes on from, until it has its own."""

"""What runs on Ray: rollouts, teacher, verifier, experience, learner, and the command `rlad`."""

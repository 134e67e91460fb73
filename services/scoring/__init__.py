"""Log-probs of given responses: what a scoring engine is, two of them, and the batcher in front."""

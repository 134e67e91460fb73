"""The method: RL-aware distillation without any of the services that run it."""

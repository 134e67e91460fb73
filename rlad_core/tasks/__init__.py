"""Tasks: where prompts come from and how responses to them are judged."""

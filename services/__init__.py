"""What runs on Ray, one folder a role. A room imports from rooms below it, see docs/architecture.md."""

"""The rollouts' HTTP application. Its routes are methods of the service and of what that inherits from."""

from services.serve.http.gate import service_app

SERVICE = "rollout"

http = service_app(SERVICE, "Rollouts", "Responses sampled from the current policy, with their log-probs.")

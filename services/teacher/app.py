"""The teacher's HTTP application. Its routes are methods of the service and of what that inherits from."""

from services.serve.http.gate import service_app

SERVICE = "teacher"

http = service_app(SERVICE, "Teacher scoring", "Log-probs of given responses under a teacher model.")

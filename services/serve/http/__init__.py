"""What every HTTP request of a service passes: its token, its body, its limits, and how a refusal is told.

In: requests. Out: bodies within limits, problems (RFC 9457).
`slow_clients` is about answers that their clients do not take.
May be called by the services; knows none of their routes.
"""

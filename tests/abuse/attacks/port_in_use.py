"""A port that somebody else listens on."""

import socket

from tests.abuse.served import ended
from tests.abuse.target import SERVICES, Effort, Target

SENT = "a port in use"


def attack(target: Target, effort: Effort) -> str:
    """Refused before anything is started, in one sentence that says what to do."""
    longest = 0.0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for service in SERVICES if effort.long else ("verifier",):
            model = [] if service == "verifier" else ["--model", "rlad:kk-student"]
            told = ended(service, *model, "--port", port)
            assert told.code == 2, told
            assert port in told.said, told
            assert "Traceback" not in told.said, told
            longest = max(longest, told.seconds)
    return f"refused with 2 after {longest:.1f} s, before Ray is started"

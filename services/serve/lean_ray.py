"""An embedded Ray without the processes that serve clusters of several nodes.

`ray.init` starts three more than one machine has use for, one after another, and waits for the first before
it starts what does the work:

===================  ===================================================================================
the dashboard        with `include_dashboard=False` a process that only reports usage statistics
the monitor          asks for more nodes
the log monitor      sends workers' lines to the driver; with `log_to_driver=False` nobody reads them
===================  ===================================================================================
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray._private import parameter, services


class _OneMachine(parameter.RayParams):
    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.no_monitor, self.include_log_monitor = True, False


def _no_dashboard(*_: Any, **__: Any) -> tuple[str, None]:
    """Its URL, empty as that of one without pages is, and its process."""
    return "", None


@contextmanager
def without_idle_processes() -> Iterator[None]:
    """Ray that is started inside the block leaves them out; it has no switch for it."""
    before = parameter.RayParams, services.start_api_server
    parameter.RayParams, services.start_api_server = _OneMachine, _no_dashboard
    try:
        yield
    finally:
        parameter.RayParams, services.start_api_server = before

"""An embedded Ray that is there sooner, without what only several nodes use.

Whoever starts Ray looks each second whether its node is there, which takes about one. And it starts three
processes more than one machine has use for, one after another, and waits for the first before it starts what
does the work:

===================  ===================================================================================
the dashboard        with `include_dashboard=False` a process that only reports usage statistics
the monitor          asks for more nodes, and counts those that there are, which dashboards of runs show
the log monitor      sends workers' lines to the driver; with `log_to_driver=False` nobody reads them
===================  ===================================================================================

Before it starts anything it imports the dashboard's libraries, to see that they are there; `ray[serve]`
brings them. With services alone there is no monitor either, and workers become Serve's controller, its proxy
and replicas, all of which begin with importing Serve, so they have it when they are asked (`lean_worker`).
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ray._private import parameter, services, utils

_NODE_S, _LOOK_S = 30.0, 0.02


class _OneMachine(parameter.RayParams):
    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.include_log_monitor = False


class _ServicesAlone(_OneMachine):
    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.no_monitor = True
        self.worker_path = str(Path(__file__).with_name("lean_worker.py"))


def _no_dashboard(*_: Any, **__: Any) -> tuple[str, None]:
    """Its URL, empty as that of one without pages is, and its process."""
    return "", None


def _nothing_missing() -> None:
    """Of the dashboard's libraries."""


@contextmanager
def lean(meanwhile: Callable[[], None] = lambda: None, *, services_alone: bool = False) -> Iterator[None]:
    """Ray that is started inside the block has one node; there is no switch for it.

    Args:
        meanwhile: done once Ray's processes have begun, and before they are waited for.
        services_alone: its workers have Serve imported.
    """
    begin, find = services.start_raylet, services.get_node

    def start_raylet(*args: Any, **more: Any) -> Any:
        begun = begin(*args, **more)
        meanwhile()
        return begun

    def get_node(gcs_address: str, node_id: str) -> Any:
        client, node = services.GcsClient(address=gcs_address), services.NodeID.from_hex(node_id)
        until = time.monotonic() + _NODE_S  # for which Ray itself waits
        while node not in client.get_all_node_info() and time.monotonic() < until:
            time.sleep(_LOOK_S)
        return find(gcs_address, node_id)

    with (
        _replaced(parameter, RayParams=_ServicesAlone if services_alone else _OneMachine),
        _replaced(services, start_api_server=_no_dashboard, start_raylet=start_raylet, get_node=get_node),
        _replaced(utils, get_dashboard_dependency_error=_nothing_missing),
    ):
        yield


@contextmanager
def _replaced(module: ModuleType, **by: Any) -> Iterator[None]:
    before = {name: getattr(module, name) for name in by}
    for name, value in by.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def import_serve() -> None:
    """Serve, but not pandas: it looks for tables of it in what routes answer, where it is installed."""
    absent = "pandas" not in sys.modules
    if absent:
        sys.modules["pandas"] = None  # type: ignore[assignment]  # so that its import fails
    try:
        import ray.serve  # noqa: F401
    finally:
        if absent:
            del sys.modules["pandas"]

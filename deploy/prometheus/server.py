"""A Prometheus of our own on the loopback interface, for tests and for looking at one run."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from deploy.prometheus.executables import executables

FOLDER = Path(__file__).parent
RULE_FILES = ("recording.rules.yaml", "alerts.rules.yaml")
_START_S = 60.0
_ANSWER_S = 60.0


class QueryError(RuntimeError):
    """Prometheus refuses a query; the message is its own."""


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, and (seconds since the epoch, value) in the order of time."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Prometheus:
    """A server that answers at `url`, without a slash at its end."""

    url: str

    def at(self, expr: str, time_s: float) -> list[Series]:
        """The answer at one moment.

        Raises:
            QueryError: the expression is wrong.
        """
        found = self.get("query", query=expr, time=time_s)
        return [Series(one["metric"], [_point(one["value"])]) for one in found["result"]]

    def over(self, expr: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """The answers from `start_s` to `end_s`.

        Raises:
            QueryError: the expression is wrong.
        """
        found = self.get("query_range", query=expr, start=start_s, end=end_s, step=step_s)
        return [Series(one["metric"], [_point(p) for p in one["values"]]) for one in found["result"]]

    def values(self, label: str, selector: str, start_s: float, end_s: float) -> list[str]:
        """The values of a label in the series of a selector, which is what a dashboard's variable offers."""
        found = self.get(f"label/{label}/values", **{"match[]": selector, "start": start_s, "end": end_s})
        return [str(value) for value in found]

    def get(self, path: str, **parameters: Any) -> Any:
        """The ``data`` of an answer of the HTTP API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=_ANSWER_S).json()
        if answer["status"] != "success":
            raise QueryError(f"{answer['error']} (in {parameters})")
        return answer["data"]


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


@contextmanager
def serving(folder: Path, *, announcements: str = "", interval_s: float = 4.0) -> Iterator[Prometheus]:
    """Run Prometheus with our rules until the block ends; its data stay in ``folder/data``.

    Args:
        folder: for its data, configuration and log; made if need be.
        announcements: files that name what to scrape (``file_sd_configs``); * is allowed in the file's name.
        interval_s: between two scrapes, and two evaluations of the rules.

    Raises:
        MissingError: there is no Prometheus here.
        TimeoutError: it does not start.
    """
    program = executables()["prometheus"]
    folder.mkdir(parents=True, exist_ok=True)
    for name in RULE_FILES:
        shutil.copy(FOLDER / name, folder)
    interval = f"{int(interval_s * 1000)}ms"
    files = [{"files": [announcements], "refresh_interval": "1s"}]
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": list(RULE_FILES),
        "scrape_configs": [{"job_name": "ray", "file_sd_configs": files}] if announcements else [],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                str(program),
                *("--config.file", str(folder / "prometheus.yaml")),
                *("--storage.tsdb.path", str(folder / "data")),
                *("--web.listen-address", f"127.0.0.1:{port}"),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(url, process, folder)
            yield Prometheus(url)
        finally:
            process.terminate()
            process.wait(60)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    log = (folder / "prometheus.log").read_text()[-2000:]
    raise TimeoutError(f"Prometheus did not start within {_START_S:g} s; its log ends with\n{log}")

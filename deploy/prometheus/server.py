"""A Prometheus of our own on the loopback interface, for tests and for looking at one run."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from deploy.prometheus.executables import executables
from deploy.prometheus.faster import faster
from services.base.ports import free_port

FOLDER = Path(__file__).parent
ALERTS = "alerts.rules.yaml"
RULE_FILES = ("recording.rules.yaml", ALERTS)
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
def serving(
    folder: Path,
    *,
    announcements: str = "",
    interval_s: float = 4.0,
    hastened: float = 1.0,
    alertmanager: str = "",
) -> Iterator[Prometheus]:
    """Run Prometheus with our rules until the block ends; its data stay in ``folder/data``.

    Args:
        folder: for its data, configuration and log; made if need be.
        announcements: files that name what to scrape (``file_sd_configs``); * is allowed in the file's name.
        interval_s: between two scrapes, and two evaluations of the rules.
        hastened: how many times faster than written the alerts' times go by.
        alertmanager: host and port of the one that is told.

    Raises:
        MissingError: there is no Prometheus here.
        TimeoutError: it does not start.
    """
    program = executables()["prometheus"]
    folder.mkdir(parents=True, exist_ok=True)
    for name in RULE_FILES:
        shutil.copy(FOLDER / name, folder)
    if hastened != 1.0:
        text = (FOLDER / ALERTS).read_text()
        (folder / ALERTS).write_text(faster(text, hastened))
    interval = f"{int(interval_s * 1000)}ms"
    files = [{"files": [announcements], "refresh_interval": "1s"}]
    config: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": list(RULE_FILES),
        "scrape_configs": [{"job_name": "ray", "file_sd_configs": files}] if announcements else [],
    }
    if alertmanager:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(program),
        *("--config.file", str(folder / "prometheus.yaml")),
        *("--storage.tsdb.path", str(folder / "data")),
        *("--web.listen-address", f"127.0.0.1:{port}"),
        "--enable-feature=exemplar-storage",
    ]
    with answering(command, url, folder / "prometheus.log"):
        yield Prometheus(url)


@contextmanager
def answering(command: Sequence[str], url: str, log: Path) -> Iterator[None]:
    """A server as a process: ready within the block, ended after it.

    Raises:
        TimeoutError: it does not start.
    """
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(url, process, log)
            yield
        finally:
            process.terminate()
            process.wait(60)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a program of the Prometheus family answers.

    Raises:
        TimeoutError: it does not; the message has the end of its log.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(
        f"{url} was not ready within {_START_S:g} s; {log} ends with\n{log.read_text()[-2000:]}"
    )

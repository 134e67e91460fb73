"""An Alertmanager of our own on the loopback interface, with the configuration that ships."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.prometheus.executables import executables
from deploy.prometheus.server import answering
from services.base.ports import free_port

#: Debian's build has this path compiled in.
_TEMPLATES = Path("/usr/share/prometheus/alertmanager/default.tmpl")
CONFIG = Path(__file__).resolve().parents[1] / "alertmanager" / "alertmanager.yaml"


@dataclass(frozen=True)
class Alertmanager:
    """A server at ``127.0.0.1:PORT``, the form in which Prometheus is told of it."""

    address: str

    def receivers(self) -> dict[str, str]:
        """Whom it tells of each alert that it has now: alert -> receiver."""
        answer = httpx.get(f"http://{self.address}/api/v2/alerts", timeout=10).raise_for_status().json()
        return {one["labels"]["alertname"]: one["receivers"][0]["name"] for one in answer}


def _with_templates(program: Path) -> list[str]:
    """What comes before a program that is unpacked and not installed: it sees its own /usr/share."""
    share = program.parents[1] / "share"
    if _TEMPLATES.exists() or not (share / _TEMPLATES.relative_to("/usr/share")).exists():
        return []
    script = 'mount --bind "$0" /usr/share && exec "$@"'
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(share)]


@contextmanager
def telling(folder: Path) -> Iterator[Alertmanager]:
    """Run it until the block ends; its log stays in `folder`.

    Raises:
        MissingError: there is no Alertmanager here.
        TimeoutError: it does not start.
    """
    program = executables("prometheus-alertmanager")["prometheus-alertmanager"]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(CONFIG, folder)
    address = f"127.0.0.1:{free_port()}"
    command = [
        *_with_templates(program),
        str(program),
        *("--config.file", str(folder / CONFIG.name)),
        *("--storage.path", str(folder / "data")),
        *("--web.listen-address", address),
        "--cluster.listen-address=",
    ]
    with answering(command, f"http://{address}", folder / "alertmanager.log"):
        yield Alertmanager(address)

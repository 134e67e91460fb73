"""Waiting for an alert, and what is noted of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.prometheus.alertmanager import Alertmanager
from deploy.prometheus.server import Prometheus

HASTENED = 20.0
INTERVAL_S = 2.0
"""Between two scrapes: the shortest range of the hastened rules, 15 s, has several."""
#: What reports every 10 s would leave such a range with one value.
REPORTING = {"RAY_metrics_report_interval_ms": "1000"}
#: An alert takes up to two minutes of hastened time, on a machine that may be slow.
LIMIT_S = 240.0


class StartError(RuntimeError):
    """What should go wrong did not even start; the message says why."""


@dataclass
class Watching:
    """The two that are asked, a row for each alert that fired, and a line for each that did not."""

    prometheus: Prometheus
    alertmanager: Alertmanager
    rows: list[tuple[str, ...]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def fires(self, alert: str, fault: str, *, limit_s: float = LIMIT_S, alive: Callable[[], bool]) -> bool:
        """Whether it fires within so long from now, and Alertmanager is told; it is noted either way.

        Args:
            fault: what has just been done, for the table.
            alive: whether what should produce it still goes on.
        """
        began = time.monotonic()
        while not (found := self.firing(alert)) or alert not in self.alertmanager.receivers():
            if not alive() or time.monotonic() > began + limit_s:
                self.missed.append(f"{alert}, {limit_s:g} s after: {fault}")
                return False
            time.sleep(0.5)
        took, told = time.monotonic() - began, self.alertmanager.receivers()[alert]
        self.rows.append((alert, fault, f"{took:.0f}", told, found[0]))
        print(f"{alert}: fired {took:.0f} s after: {fault}; {told} is told: {found[0]}", flush=True)
        return True

    def firing(self, alert: str) -> list[str]:
        """Summaries of what fires under this name."""
        return [
            str(one["annotations"]["summary"])
            for one in self.prometheus.get("alerts")["alerts"]
            if one["state"] == "firing" and one["labels"]["alertname"] == alert
        ]

    def table(self) -> str:
        """Markdown."""
        head = ("alert", "fault", "seconds from fault to firing", "told", "summary")
        lines = [head, ("---",) * len(head), *self.rows]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

"""Waiting for an alert, and what is noted of it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.prometheus.alertmanager import Alertmanager
from deploy.prometheus.server import Prometheus

HASTENED = 20.0
INTERVAL_S = 2.0
"""Between two scrapes: the shortest range of the hastened rules, 15 s, has several."""
#: What reports every 10 s, or every 5 s for its node, would leave such a range with few values. A gauge that
#: was not reported for two of the first intervals is gone, so that one has to be the longer.
REPORTING = {"RAY_metrics_report_interval_ms": "3000", "REPORTER_UPDATE_INTERVAL_MS": "1000"}
#: An alert takes up to two minutes of hastened time, on a machine that may be slow.
LIMIT_S = 240.0


class StartError(RuntimeError):
    """What should go wrong did not even start; the message says why."""


@dataclass
class Fired:
    """A row of the table; `resolved_s` is counted from the fault's end, the others from its beginning."""

    alert: str
    fault: str
    pending_s: float
    firing_s: float
    told: str
    summary: str
    resolved_s: float = math.nan

    def cells(self) -> tuple[str, ...]:
        """In the order of the table."""
        seconds = (f"{s:.0f}" for s in (self.pending_s, self.firing_s, self.resolved_s))
        return (f"`{self.alert}`", self.fault, *seconds, self.told, self.summary)


@dataclass
class Watching:
    """The two that are asked, a row for each alert that fired, and a line for each that did not."""

    prometheus: Prometheus
    alertmanager: Alertmanager
    rows: list[Fired] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def fires(self, alert: str, fault: str, *, limit_s: float = LIMIT_S, alive: Callable[[], bool]) -> bool:
        """Whether it fires within so long from now, and Alertmanager is told; it is noted either way.

        Args:
            fault: what has just been done, for the table.
            alive: whether what should produce it still goes on.
        """
        began, pending_s = time.monotonic(), math.nan
        while not (found := self.summaries(alert, "firing")) or alert not in self.alertmanager.receivers():
            if math.isnan(pending_s) and (found or self.summaries(alert, "pending")):
                pending_s = time.monotonic() - began
            if not alive() or time.monotonic() > began + limit_s:
                self.missed.append(f"{alert}, {time.monotonic() - began:.0f} s after: {fault}")
                return False
            time.sleep(0.5)
        firing_s, told = time.monotonic() - began, self.alertmanager.receivers()[alert]
        pending_s = firing_s if math.isnan(pending_s) else pending_s
        self.rows.append(Fired(alert, fault, pending_s, firing_s, told, found[0]))
        print(f"{alert}: fired {firing_s:.0f} s after: {fault}; {told} is told: {found[0]}", flush=True)
        return True

    def resolves(self, *alerts: str) -> None:
        """Wait until those of them that fired do no more; the fault has just ended."""
        began = time.monotonic()
        waiting = [row for row in self.rows if row.alert in alerts]
        while waiting and time.monotonic() < began + LIMIT_S:
            for row in [row for row in waiting if not self.summaries(row.alert, "firing")]:
                row.resolved_s = time.monotonic() - began
                waiting.remove(row)
                print(f"{row.alert}: resolved {row.resolved_s:.0f} s after the fault's end", flush=True)
            time.sleep(0.5)
        self.missed += [f"{row.alert} still fires {LIMIT_S:g} s after the fault's end" for row in waiting]

    def summaries(self, alert: str, state: str) -> list[str]:
        """Of what is pending or firing under this name."""
        return [
            str(one["annotations"]["summary"])
            for one in self.prometheus.get("alerts")["alerts"]
            if one["state"] == state and one["labels"]["alertname"] == alert
        ]

    def table(self) -> str:
        """Markdown."""
        head = ("alert", "fault", "s to pending", "s to firing", "s to resolved", "told", "summary")
        lines = [head, ("---",) * len(head), *(row.cells() for row in self.rows)]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

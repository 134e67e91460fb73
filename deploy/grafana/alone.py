"""Services at their own /metrics: buckets of a call's time, whose exemplars lead to traces; a closed row."""

from deploy.grafana.model import Panel, Query, Row
from rlad_core import metrics

_BUCKETS = f"{metrics.SERVICE_DURATION.name}_bucket"  # as the process itself says it: nothing before the name


def _latency(service: str) -> Panel:
    grown = f'increase({_BUCKETS}{{service="{service}"}}[$__rate_interval])'
    return Panel(
        f"Calls to a {service} service alone, by their time",
        [
            Query(
                f"sum by (le) ({grown})",
                "{{le}}",
                "no service is asked at its own /metrics",
                buckets=True,
            )
        ],
        "none",
        "Calls by the time that they took: a row for each bucket. A diamond is one call, and its trace_id "
        "names the trace that says what the time went to.",
        "Most in few rows.",
        "Calls far above the others: open the trace of one of their diamonds.",
        kind="heatmap",
        unjudged="what is long depends on the calls; the panel leads to their traces",
    )


ALONE = Row(
    "Services that run alone (empty unless runs/alone-*.json names their /metrics)",
    [_latency(service) for service in ("rollout", "teacher", "verifier")],
    closed=True,
)

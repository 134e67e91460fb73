"""Recording rules for quantiles: the expensive part of a dashboard, computed once and not for each viewer."""

from dataclasses import dataclass
from typing import Any

from deploy.grafana.promql import PERCENTILES, exported, recorded
from rlad_core import metrics
from rlad_core.metrics import MetricSpec

_SERVICE = ("run", "service", "application", "deployment")


@dataclass(frozen=True)
class Recorded:
    """A histogram whose quantiles are recorded.

    Attributes:
        metric: declared, or the exported name of a foreign one.
        by: labels that stay.
        window: spans it looks back on; long where they are rare.
    """

    metric: MetricSpec | str
    by: tuple[str, ...]
    window: str


#: A step may take minutes, a request takes milliseconds.
RECORDED = (
    Recorded(metrics.STAGE_DURATION, ("run", "stage"), "30m"),
    Recorded(metrics.SERVICE_DURATION, _SERVICE, "5m"),
    Recorded(metrics.SERVICE_PHASE_DURATION, (*_SERVICE, "phase"), "5m"),
    Recorded(metrics.SERVICE_BATCH_SEQUENCES, _SERVICE, "5m"),
    Recorded(metrics.SERVICE_BATCH_TOKENS, _SERVICE, "5m"),
    Recorded("ray_vllm_request_queue_time_seconds", _SERVICE, "5m"),
    Recorded("ray_vllm_time_to_first_token_seconds", _SERVICE, "5m"),
    Recorded("ray_vllm_inter_token_latency_seconds", _SERVICE, "5m"),
    Recorded("ray_vllm_e2e_request_latency_seconds", _SERVICE, "5m"),
    Recorded("ray_vllm_request_generation_tokens", _SERVICE, "5m"),
    Recorded("ray_serve_deployment_processing_latency_ms", ("application", "deployment"), "5m"),
)


def rule_file() -> dict[str, Any]:
    """The content of recording.rules.yaml."""
    return {"groups": [{"name": "rlad-quantiles", "rules": [r for one in RECORDED for r in _rules(one)]}]}


def _rules(one: Recorded) -> list[dict[str, Any]]:
    labels = ", ".join((*one.by, "le"))
    rate = f"sum by ({labels}) (rate({exported(one.metric)}_bucket[{one.window}]))"
    return [
        {
            "record": recorded(one.metric),
            "labels": {"percentile": name},
            # The comparison drops NaN, which is the quantile of no observation.
            "expr": f"histogram_quantile({share:g}, {rate}) >= 0",
        }
        for name, share in PERCENTILES.items()
    ]

"""Recording rules for quantiles: the expensive part of a dashboard, computed once and not for each viewer."""

from dataclasses import dataclass
from typing import Any

from deploy.grafana.foreign import SERVE_LATENCY_MS
from deploy.grafana.promql import bound, exported, recorded
from rlad_core import metrics
from rlad_core.metric_specs import DURATION_BUCKETS, PERCENTILES, TOKEN_BUCKETS, MetricSpec

_SERVICE = ("run", "service", "application", "deployment")


@dataclass(frozen=True)
class Recorded:
    """A histogram whose quantiles are recorded.

    Attributes:
        metric: declared, or the exported name of a foreign one.
        by: labels that stay.
        window: spans it looks back on; long where they are rare.
        of_others: upper bounds of a foreign one's buckets.
    """

    metric: MetricSpec | str
    by: tuple[str, ...]
    window: str
    of_others: tuple[float, ...] = ()

    @property
    def buckets(self) -> tuple[float, ...]:
        """Upper bounds, but for the last, which is infinite."""
        return self.of_others if isinstance(self.metric, str) else self.metric.buckets


#: A step may take minutes, a request takes milliseconds.
RECORDED = (
    Recorded(metrics.STAGE_DURATION, ("run", "stage"), "30m"),
    Recorded(metrics.SERVICE_DURATION, _SERVICE, "5m"),
    Recorded(metrics.SERVICE_PHASE_DURATION, (*_SERVICE, "phase"), "5m"),
    Recorded(metrics.SERVICE_BATCH_SEQUENCES, _SERVICE, "5m"),
    Recorded(metrics.SERVICE_BATCH_TOKENS, _SERVICE, "5m"),
    Recorded("ray_vllm_request_queue_time_seconds", _SERVICE, "5m", DURATION_BUCKETS),
    Recorded("ray_vllm_time_to_first_token_seconds", _SERVICE, "5m", DURATION_BUCKETS),
    Recorded("ray_vllm_inter_token_latency_seconds", _SERVICE, "5m", DURATION_BUCKETS),
    Recorded("ray_vllm_e2e_request_latency_seconds", _SERVICE, "5m", DURATION_BUCKETS),
    Recorded("ray_vllm_request_generation_tokens", _SERVICE, "5m", TOKEN_BUCKETS),
    Recorded(
        "ray_serve_deployment_processing_latency_ms",
        ("application", "deployment"),
        "5m",
        SERVE_LATENCY_MS,
    ),
)


def rule_file() -> dict[str, Any]:
    """The content of recording.rules.yaml."""
    return {"groups": [{"name": "rlad-quantiles", "rules": [r for one in RECORDED for r in _rules(one)]}]}


def _rules(one: Recorded) -> list[dict[str, Any]]:
    """For each percentile the quantile where its bucket has two ends, else the end that it has."""
    labels = ", ".join((*one.by, "le"))
    rate = f"sum by ({labels}) (rate({exported(one.metric)}_bucket[{one.window}]))"
    first, last = one.buckets[0], one.buckets[-1]
    rules = []
    for name, share in PERCENTILES.items():
        # Without an observation it is NaN, which every comparison drops.
        quantile = f"histogram_quantile({share:g}, {rate})"
        beyond = [
            f'label_replace(({quantile} {sign} {end:g}) * 0 + {end:g}, "side", "{side}", "", "")'
            for side, sign, end in (("under", "<=", first), ("over", ">=", last))
        ]
        common = {"labels": {"percentile": name}}
        rules.append({"record": recorded(one.metric), **common, "expr": f"{quantile} > {first:g} < {last:g}"})
        rules.append({"record": bound(one.metric), **common, "expr": " or ".join(beyond)})
    return rules

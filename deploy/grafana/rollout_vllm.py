"""Rollout and vLLM: sampling as its callers see it, and what the engines do meanwhile."""

from deploy.grafana.model import Dashboard, Panel, Query, Row, Threshold
from deploy.grafana.promql import Scope
from deploy.grafana.quantiles import percentiles
from deploy.grafana.service_panels import ANY, ServicePanels
from rlad_core import metrics

_PANELS = ServicePanels(
    "rollout",
    "RolloutService",
    "add replicas, or raise `max_num_seqs` where the KV cache has room",
    slow_s=600,
    limit_s=1800,
)
_SCOPE = _PANELS.scope
_FIRST_TOKEN = (Threshold(10, "yellow"), Threshold(60, "red"))
_REPLICAS = Scope(tuple(m for m in _SCOPE.matchers if not m.startswith("service=")), _SCOPE.by)


def _percentiles(histogram: str) -> list[Query]:
    return percentiles(_SCOPE, histogram, "{{application}}")


_ENGINE = (
    Panel(
        "Requests in the engine",
        [
            Query(
                _SCOPE.total("ray_vllm_num_requests_running", "ReplicaId"),
                "{{application}} {{ReplicaId}} running",
            ),
            Query(
                _SCOPE.total("ray_vllm_num_requests_waiting", "ReplicaId"),
                "{{application}} {{ReplicaId}} waiting",
            ),
        ],
        "none",
        "Responses that each engine generates, and those that wait for a place among them.",
        "Running near `max_num_seqs` at a step's beginning, falling as responses end; waiting 0 soon after.",
        "Waiting for long: raise `max_num_seqs`, or the KV cache's memory if that is full.",
        axis="responses",
        unjudged="`max_num_seqs` decides what is much",
    ),
    Panel(
        "KV cache in use",
        [Query(_SCOPE.largest("ray_vllm_kv_cache_usage_perc", "ReplicaId"), "{{application}} {{ReplicaId}}")],
        "percentunit",
        "Share of the KV cache that holds tokens.",
        "Under 90%.",
        "At 100% requests are pre-empted and computed again: give it more memory, or lower `max_num_seqs`.",
        high=1,
        thresholds=[Threshold(0.9, "yellow"), Threshold(0.98, "red")],
    ),
    Panel(
        "Tokens in the engine",
        [
            Query(_SCOPE.rate("ray_vllm_prompt_tokens_total"), "{{application}} prompt"),
            Query(_SCOPE.rate("ray_vllm_generation_tokens_total"), "{{application}} generated"),
        ],
        "short",
        "Tokens that the engines read and write a second, as vLLM counts them.",
        "As the service's own count; more where requests were cancelled.",
        "Far more than the service answers: work is thrown away, see pre-emptions and errors.",
        axis="tokens/s",
        unjudged="it depends on the hardware and on the work there is",
    ),
    Panel(
        "Prefix cache",
        [
            Query(
                f"({_SCOPE.rate('ray_vllm_prefix_cache_hits_total')})"
                f" / ({_SCOPE.rate('ray_vllm_prefix_cache_queries_total')})",
                "{{application}}",
                empty_when_well="on CPUs short prompts may never fill a block",
            )
        ],
        "percentunit",
        "Share of the prompts' tokens that were in the cache.",
        "With groups of G responses about 1 - 1/G: the first one fills it for the others.",
        "Near 0: prompts are shorter than a block, or groups are spread over replicas.",
        high=1,
        base="yellow",
        thresholds=[Threshold(0.3, "green")],
    ),
    Panel(
        "Pre-emptions",
        [
            Query(
                _SCOPE.rate("ray_vllm_num_preemptions_total"),
                "{{application}}",
                empty_when_well="an engine with room enough pre-empts nothing",
            )
        ],
        "cps",
        "Requests thrown out of the KV cache, to be computed again.",
        "None.",
        "See KV cache in use.",
        thresholds=[Threshold(ANY, "yellow"), Threshold(1, "red")],
    ),
    Panel(
        "How responses ended",
        [
            Query(
                _SCOPE.rate("ray_vllm_request_success_total", "finished_reason"),
                "{{application}} {{finished_reason}}",
            )
        ],
        "reqps",
        "Responses finished a second: stop is an end token, length the limit, abort a cancelled call.",
        "Nearly all stop.",
        "length: see Truncated on Training run. abort or error: see the service's errors.",
        unjudged="which reason, not how many, is good or bad; Truncated has the share",
    ),
)

_ENGINE_LATENCY = (
    Panel(
        "Time in the engine's queue",
        _percentiles("ray_vllm_request_queue_time_seconds"),
        "s",
        "Percentiles of the time that a request waits in the engine before it is first scheduled.",
        "Milliseconds.",
        "As long as a response takes: more requests than `max_num_seqs`; add replicas.",
        logarithmic=True,
        thresholds=_FIRST_TOKEN,
    ),
    Panel(
        "Time to the first token",
        _percentiles("ray_vllm_time_to_first_token_seconds"),
        "s",
        "Percentiles of the time from a request's arrival to its first token.",
        "The queue and one engine step.",
        "Long without a queue: prompts are long; more `max_num_batched_tokens` reads them in fewer steps.",
        logarithmic=True,
        thresholds=_FIRST_TOKEN,
    ),
    Panel(
        "Time between tokens",
        _percentiles("ray_vllm_inter_token_latency_seconds"),
        "s",
        "Percentiles over engine steps of the time between two tokens of a response.",
        "Flat; p99 has the pauses of weight hand-overs.",
        "Rising with the requests that run: the engine is at its limit of compute.",
        logarithmic=True,
        thresholds=[Threshold(0.2, "yellow"), Threshold(1, "red")],
    ),
    Panel(
        "Time of a response",
        _percentiles("ray_vllm_e2e_request_latency_seconds"),
        "s",
        "Percentiles of the time from a request's arrival to its last token.",
        "p99 is what a step waits for.",
        "p99 far over p50: a few long responses; see response lengths.",
        logarithmic=True,
        thresholds=_PANELS.slow,
    ),
    Panel(
        "Length of a response",
        _percentiles("ray_vllm_request_generation_tokens"),
        "none",
        "Percentiles of the tokens in a response.",
        "p99 below `max_response_length`.",
        "p99 at the limit: see Truncated on Training run.",
        axis="tokens",
        unjudged="`max_response_length` decides what is long; Truncated has the share that hits it",
    ),
    Panel(
        "Policy version by replica",
        [Query(_REPLICAS.largest(metrics.RUN_POLICY_VERSION, "rank"), "{{application}} replica {{rank}}")],
        "none",
        "Version that each replica samples from.",
        "All are the same.",
        "One stays behind: it cannot load weights; its log says why.",
        axis="version",
        unjudged="versions only rise; one that stays behind has an alert",
    ),
)

DASHBOARD = Dashboard(
    "rlad-rollout-vllm",
    "RLAD / Rollout and vLLM",
    "How fast responses are sampled, and what the engines do meanwhile.",
    _PANELS.variables,
    (
        Row("Rate", (_PANELS.calls(), _PANELS.tokens("generated"), _PANELS.sequences())),
        Row("Latency", (_PANELS.latency(), _PANELS.phases(), _PANELS.phase_means())),
        Row("vLLM", _ENGINE),
        Row("One response in vLLM", _ENGINE_LATENCY),
        Row(
            "Saturation and errors",
            (
                _PANELS.in_flight(),
                _PANELS.serve_queue(),
                _PANELS.limits(),
                _PANELS.errors(),
                _PANELS.error_share(),
            ),
        ),
    ),
)

"""Metrics that the dashboards take from Ray, Serve and vLLM, whose names may change with their versions.

A test compares the first list with what a run's Prometheus has.
"""

from typing import Final

from deploy.grafana.model import Color

#: Serve's numbers for the states of a deployment, `ray_serve_deployment_status`.
SERVE_STATES: Final[dict[int, tuple[str, Color]]] = {
    0: ("unknown", "red"),
    1: ("failed to deploy", "red"),
    2: ("unhealthy", "red"),
    3: ("being brought up", "yellow"),
    4: ("more replicas coming", "green"),
    5: ("fewer replicas", "green"),
    6: ("healthy", "green"),
}

#: Upper bounds in milliseconds of Serve's latencies, unless RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS says others.
SERVE_LATENCY_MS: Final = (
    *(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0),
    *(60_000.0, 120_000.0, 300_000.0, 600_000.0),
)

#: In the scrape of every run, with Ray 2.60 and vLLM 0.32.
SEEN: Final = frozenset(
    {
        "ray_actors",
        "ray_cluster_active_nodes",
        "ray_component_rss_bytes",
        "ray_node_cpu_utilization",
        "ray_node_disk_utilization_percentage",
        "ray_node_mem_total",
        "ray_node_mem_used",
        "ray_object_store_available_memory",
        "ray_object_store_used_memory",
        "ray_serve_deployment_processing_latency_ms",
        "ray_serve_deployment_queued_queries",
        "ray_serve_deployment_replica_healthy",
        "ray_serve_deployment_replica_starts_total",
        "ray_serve_deployment_status",
        "ray_serve_replica_processing_queries",
        "ray_spill_manager_objects_bytes",
        "ray_vllm_e2e_request_latency_seconds",
        "ray_vllm_generation_tokens_total",
        "ray_vllm_inter_token_latency_seconds",
        "ray_vllm_kv_cache_usage_perc",
        "ray_vllm_num_requests_running",
        "ray_vllm_num_requests_waiting",
        "ray_vllm_prefix_cache_queries_total",
        "ray_vllm_prompt_tokens_total",
        "ray_vllm_request_generation_tokens",
        "ray_vllm_request_queue_time_seconds",
        "ray_vllm_request_success_total",
        "ray_vllm_time_to_first_token_seconds",
    }
)

#: Only there after what they count has happened, or on other machines; where they are declared.
OCCASIONAL: Final = {
    "ray_memory_manager_worker_eviction_total": "Ray, in its default dashboard: a worker killed for memory",
    "DCGM_FI_DEV_FB_FREE": "DCGM exporter: free memory of a GPU, MiB",
    "DCGM_FI_DEV_FB_USED": "DCGM exporter: used memory of a GPU, MiB",
    "DCGM_FI_DEV_GPU_TEMP": "DCGM exporter: temperature of a GPU, Celsius",
    "DCGM_FI_DEV_GPU_UTIL": "DCGM exporter: share of the time in which a GPU computes, percent",
    "DCGM_FI_DEV_POWER_USAGE": "DCGM exporter: power that a GPU draws, watts",
    "DCGM_FI_DEV_XID_ERRORS": "DCGM exporter: number of the last error that the driver reported",
    "ray_node_gpus_utilization": "Ray, in its default dashboard: a node with GPUs",
    "ray_serve_num_http_error_requests_total": "Ray, in its Serve dashboard: an HTTP call that failed",
    "ray_serve_num_http_requests_total": "Ray, in its Serve dashboard: an HTTP call",
    "ray_vllm_num_preemptions_total": "vLLM, loggers.py: a request that lost its place in the KV cache",
    "ray_vllm_prefix_cache_hits_total": "vLLM, loggers.py: a prompt of which a block was in the cache",
}

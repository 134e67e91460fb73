"""Metrics that the dashboards take from Ray, Serve and vLLM, whose names may change with their versions.

A test compares the first list with what a run's Prometheus has.
"""

from typing import Final

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
    "ray_node_gpus_utilization": "Ray, in its default dashboard: a node with GPUs",
    "ray_serve_num_http_error_requests_total": "Ray, in its Serve dashboard: an HTTP call that failed",
    "ray_serve_num_http_requests_total": "Ray, in its Serve dashboard: an HTTP call",
    "ray_vllm_num_preemptions_total": "vLLM, loggers.py: a request that lost its place in the KV cache",
    "ray_vllm_prefix_cache_hits_total": "vLLM, loggers.py: a prompt of which a block was in the cache",
}

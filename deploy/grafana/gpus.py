"""GPUs as NVIDIA's DCGM exporter and Ray see them; a row that is closed where there are none."""

from collections.abc import Sequence

from deploy.grafana.model import Panel, Query, Row, Threshold

_NONE = "a machine without NVIDIA GPUs, or without the DCGM exporter, has no such series"
_WHICH = "Hostname, gpu"
_LEGEND = "{{Hostname}} {{gpu}}"


def _dcgm(metric: str, form: str = "{}") -> list[Query]:
    return [Query(form.format(f"max by ({_WHICH}) (DCGM_FI_DEV_{metric})"), _LEGEND, _NONE)]


_USED, _FREE = (f"max by ({_WHICH}) (DCGM_FI_DEV_FB_{which})" for which in ("USED", "FREE"))
_PANELS: Sequence[Panel] = (
    Panel(
        "GPU memory",
        [Query(f"({_USED}) / (({_USED}) + ({_FREE}))", _LEGEND, _NONE)],
        "percentunit",
        "Share of each GPU's memory in use. Engines take theirs when they start and keep it.",
        "Flat after the first steps, at what `rlad plan` says and what CUDA takes for itself.",
        "Rising: see *Memory that was planned*; there is an alert before it is full.",
        high=1,
        thresholds=[Threshold(0.95, "yellow"), Threshold(0.98, "red")],
    ),
    Panel(
        "GPU in use",
        _dcgm("GPU_UTIL", "({}) / 100"),
        "percentunit",
        "Share of the time in which each GPU computes anything.",
        "Engines and learner take turns strictly on-policy, so well under 100%.",
        "0 throughout: the process that owns it hangs, or nobody does.",
        high=1,
        unjudged="engines and learner take turns, so idle moments are as it should be",
    ),
    Panel(
        "GPU in use, as Ray sees it",
        [
            Query(
                "max by (instance, GpuIndex) (ray_node_gpus_utilization) / 100",
                "{{instance}} {{GpuIndex}}",
                "a node without GPUs has no such series",
            )
        ],
        "percentunit",
        "The same from Ray's own agent, where there is no DCGM exporter.",
        "As above.",
        "As above.",
        high=1,
        unjudged="engines and learner take turns, so idle moments are as it should be",
    ),
    Panel(
        "Power",
        _dcgm("POWER_USAGE"),
        "watt",
        "What each GPU draws.",
        "Near its limit while it computes.",
        "Far under it at full use: it is throttled; see the temperature.",
        unjudged="each kind of GPU has its own limit",
    ),
    Panel(
        "Temperature",
        _dcgm("GPU_TEMP"),
        "celsius",
        "Of each GPU.",
        "Under 85 degrees.",
        "From there on it slows itself down: fans, air, a neighbour. There is an alert.",
        thresholds=[Threshold(85, "yellow"), Threshold(90, "red")],
    ),
    Panel(
        "Errors of the driver (XID)",
        _dcgm("XID_ERRORS"),
        "none",
        "Number of the last error that the driver reported, 0 for none. NVIDIA's list says what each is.",
        "0.",
        "48, 79, 94, 95 want the node drained; 13, 31, 43 are mostly a program's fault. There is an alert.",
        axis="XID",
        thresholds=[Threshold(1, "red")],
    ),
)
GPUS = Row("GPUs (empty without NVIDIA GPUs and their DCGM exporter)", _PANELS, closed=True)

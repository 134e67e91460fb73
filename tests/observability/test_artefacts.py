"""A quantile in a histogram's first or last bucket is refused, by the buckets that the data have."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from promtool_call import promtool

from deploy.grafana.__main__ import DASHBOARDS
from deploy.grafana.answers import View, ask
from deploy.grafana.artefacts import artefacts
from deploy.prometheus.server import Prometheus, serving

START_S = 1_700_000_000
TIMES = range(START_S, START_S + 300, 15)
#: Panel, the histogram that it is of, its quantiles, and labels; ours and vLLM's.
OURS = ("Latency of a call", "rlad_service_request_duration_seconds", {"service": "teacher"})
THEIRS = ("Time in the engine's queue", "vllm_request_queue_time_seconds", {"service": "rollout"})
BOUNDS = ("0.3", "0.5", "30.0", "+Inf")


def metric(name: str, kind: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
    lines = (f"{name}{{{inside}}} {value} {time}" for time in TIMES)
    return "\n".join((f"# TYPE {name.removesuffix('_bucket')} {kind}", *lines))


@pytest.fixture(scope="module")
def past(
    prometheus_programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Of each histogram the ends of its buckets, p50 in the first, p95 between, p99 on the last end."""
    folder = tmp_path_factory.mktemp("past")
    text = []
    for _, name, labels in (OURS, THEIRS):
        labels = {"run": "a", "application": "a-x", "deployment": "X", **labels}
        recorded = f"rlad:{name.removeprefix('rlad_')}:quantile"
        text += [metric(f"ray_{name}_bucket", "gauge", labels | {"le": end}, 1) for end in BOUNDS]
        text += [
            metric(recorded, "gauge", labels | {"percentile": percentile}, value)
            for percentile, value in (("p50", 0.15), ("p95", 0.4), ("p99", 30.0))
        ]
    (folder / "past.txt").write_text("\n".join((*text, "# EOF\n")))
    promtool(
        prometheus_programs, *("tsdb", "create-blocks-from", "openmetrics", "past.txt", "data"), folder=folder
    )
    with serving(folder) as server:
        yield server


@pytest.mark.parametrize(
    ("uid", "title"), [("rlad-teacher-scoring", OURS[0]), ("rlad-rollout-vllm", THEIRS[0])]
)
def test_what_lies_in_the_first_or_last_bucket_is_refused(past: Prometheus, uid: str, title: str) -> None:
    view = View(START_S, TIMES[-1])
    [board] = [board for board in DASHBOARDS if board.uid == uid]
    by_title = ask(past, board, view)
    low, high = artefacts(past, ((panel, by_title[panel.title]) for panel in board.panels), view)
    assert low.startswith(f"{title}: ")
    assert low.endswith(" is 0.15, and buckets end at 0.3 and 30")
    assert high.startswith(f"{title}: ")
    assert high.endswith(" is 30, and buckets end at 0.3 and 30")

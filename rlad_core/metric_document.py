"""The page of all metrics, `docs/metrics.md`: `python -m rlad_core.metric_document > docs/metrics.md`."""

from typing import Final

from rlad_core.metric_specs import LABELS
from rlad_core.metrics import METRICS
from rlad_core.page_tables import table

SECTIONS: Final = {
    "Stages": "rlad_stage_",
    "Runs": "rlad_run_",
    "Services": "rlad_service_",
}


def markdown() -> str:
    """The text of docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "<!-- Written by `python -m rlad_core.metric_document`; edit rlad_core/metrics.py. -->",
        "",
        "In Ray processes they are collected by the node's agent and exported with `ray_` in front of the",
        "name and Ray's own labels beside ours: `WorkerId`, `NodeAddress`, `SessionName`, and in a replica",
        "of Serve `application`, `deployment` and `replica` (its id). Elsewhere prometheus_client exports",
        "them as they stand here. Histograms add `_bucket`, `_sum` and `_count`; take sums of",
        "seconds from the counters, since Ray rebuilds a histogram's sum from the middles of its buckets.",
        "",
        *table(("label", "values"), ((f"`{name}`", text) for name, text in LABELS.items())),
    ]
    for title, prefix in SECTIONS.items():
        chosen = [spec for spec in METRICS.values() if spec.name.startswith(prefix)]
        rows = (
            (
                f"`{spec.name}`",
                spec.kind,
                spec.unit,
                ", ".join(f"`{label}`" for label in spec.labels),
                spec.help,
            )
            for spec in chosen
        )
        lines += ["", f"## {title}", "", *table(("name", "kind", "unit", "labels", "help"), rows)]
    lines += ["", "## Buckets", ""]
    bounds = ((f"`{s.name}`", ", ".join(f"{b:g}" for b in s.buckets)) for s in METRICS.values() if s.buckets)
    return "\n".join([*lines, *table(("histogram", "upper bounds"), bounds), ""])


if __name__ == "__main__":
    print(markdown(), end="")

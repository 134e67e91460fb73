"""A dashboard as the JSON that Grafana 11 and 12 load."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from deploy.grafana.model import Annotation, Dashboard, Panel, Query, Threshold, Variable, layout

#: That of Grafana 11.0; later ones bring it up to theirs when they load it.
SCHEMA_VERSION = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def document(dashboard: Dashboard, all_dashboards: Sequence[Dashboard]) -> dict[str, Any]:
    """The dashboard's JSON.

    Args:
        dashboard: to write.
        all_dashboards: it gets links to the others.
    """
    panels: list[dict[str, Any]] = []
    for row, place, members in layout(dashboard.rows):
        first = 1 + sum(1 + len(panel.get("panels", ())) for panel in panels)
        of_row = [
            {"id": number, "gridPos": asdict(where), **_panel(panel)}
            for number, (panel, where) in enumerate(members, first + 1)
        ]
        panels.append(
            {
                "id": first,
                "type": "row",
                "title": row.title,
                "collapsed": row.closed,
                "gridPos": asdict(place),
                "panels": of_row if row.closed else [],
            }
        )
        if not row.closed:
            panels += of_row
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.text,
        "tags": ["rlad"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_annotation(each) for each in dashboard.annotations]},
        "links": [_link(other) for other in all_dashboards if other.uid != dashboard.uid],
        "templating": {"list": [_SOURCE_VARIABLE, *map(_variable, dashboard.variables)]},
        "panels": panels,
    }


def description(panel: Panel) -> str:
    """What people read when they point at the panel's corner."""
    return f"{panel.tells}\n\nNormal: {panel.normal}\n\nOtherwise: {panel.otherwise}"


_SOURCE_VARIABLE: dict[str, Any] = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "current": {"selected": False, "text": "default", "value": "default"},
    "regex": "",
    "refresh": 1,
    "hide": 0,
    "multi": False,
    "includeAll": False,
    "options": [],
}


def _variable(variable: Variable) -> dict[str, Any]:
    everything = {"selected": True, "text": ["All"], "value": ["$__all"]}
    common: dict[str, Any] = {
        "name": variable.name,
        "label": variable.label,
        "hide": 0,
        "multi": variable.several,
        "includeAll": variable.several,
        "current": everything
        if variable.several
        else {"selected": True, "text": variable.start, "value": variable.start},
    }
    if variable.several:
        common["allValue"] = ".*"  # also of series without the label
    if isinstance(variable.query, str):
        return common | {
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": variable.query, "refId": variable.name},
            "definition": variable.query,
            "refresh": 2,  # with the time range, so that runs which are over are there too
            "sort": 1,
            "regex": "",
            "options": [],
        }
    return common | {
        "type": "custom",
        "query": ",".join(variable.query),
        "options": [{"selected": v == variable.start, "text": v, "value": v} for v in variable.query],
    }


def _annotation(annotation: Annotation) -> dict[str, Any]:
    return {
        "name": annotation.name,
        "datasource": _SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": annotation.color,
        "expr": annotation.expr,
        "titleFormat": annotation.title,
        "step": "15s",
    }


def _link(other: Dashboard) -> dict[str, Any]:
    return {
        "type": "link",
        "title": other.title,
        "tooltip": other.text,
        "icon": "dashboard",
        "url": f"/d/{other.uid}",
        "keepTime": True,
        "includeVars": True,
        "targetBlank": False,
        "asDropdown": False,
        "tags": [],
    }


def _panel(panel: Panel) -> dict[str, Any]:
    made = {
        "type": panel.kind,
        "title": panel.title,
        "description": description(panel),
        "datasource": _SOURCE,
        "targets": [_target(query, index, panel) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }
    if panel.kind == "table":
        made["transformations"] = _columns(panel)
    return made


def _target(query: Query, index: int, panel: Panel) -> dict[str, Any]:
    form = "table" if panel.kind == "table" else "heatmap" if query.buckets else "time_series"
    made = {
        "refId": chr(ord("A") + index),
        "datasource": _SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": panel.instant,
        "range": not panel.instant,
        "format": form,
    }
    return made | {"exemplar": True} if query.buckets else made


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [Threshold(0, panel.base), *panel.thresholds]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": s.color, "value": s.value if i else None} for i, s in enumerate(steps)],
        },
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "mappings": _words(panel),
    }
    low = None if panel.logarithmic else panel.low  # a logarithm has no 0
    defaults |= {k: v for k, v in (("min", low), ("max", panel.high)) if v is not None}
    if panel.kind == "heatmap":
        defaults["custom"] = {"scaleDistribution": {"type": "linear"}}
    if panel.kind == "timeseries":
        scale = {"type": "log", "log": 10} if panel.logarithmic else {"type": "linear"}
        defaults["custom"] = {
            "scaleDistribution": scale,
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 40 if panel.stacked else 5,
            "showPoints": "auto",
            "spanNulls": 120_000,  # milliseconds: a late scrape is no gap
            "axisLabel": panel.axis,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
        }
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "stat":
        return {
            "reduceOptions": last,
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "auto",
            "justifyMode": "auto",
            "orientation": "auto",
        }
    if panel.kind == "bargauge":
        return {
            "reduceOptions": last,
            "displayMode": "basic",
            "orientation": "horizontal",
            "valueMode": "color",
            "showUnfilled": True,
        }
    if panel.kind == "heatmap":
        buckets = any(query.buckets for query in panel.queries)
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {
                "mode": "scheme",
                "scheme": "Oranges",
                "fill": "dark-orange",
                "exponent": 0.5,
                "steps": 64,
                "reverse": False,
            },
            "rowsFrame": {"layout": "auto"},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s" if buckets else "none"},
            "cellValues": {"unit": panel.unit},
            "tooltip": {"mode": "single", "yHistogram": False},
            "legend": {"show": True},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
        }
    return {"showHeader": True, "cellHeight": "sm"}


def _words(panel: Panel) -> list[dict[str, Any]]:
    """Numbers that stand for something, and what that is."""
    if not panel.words:
        return []
    options = {
        str(number): {"text": text, "color": color, "index": index}
        for index, (number, (text, color)) in enumerate(panel.words.items())
    }
    return [{"type": "value", "options": options}]


def _columns(panel: Panel) -> list[dict[str, Any]]:
    """One row for each set of labels, one column for each query."""
    names = {f"Value #{chr(ord('A') + i)}": query.legend for i, query in enumerate(panel.queries)}
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}},
    ]

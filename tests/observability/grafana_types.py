"""Grafana's own TypeScript types, and dashboards written as values of them.

Its enumerations of texts become unions of those texts: JSON has no other way to write one.
"""

import json
import re
from pathlib import Path
from typing import Any

#: The package on npm, in the version of docker/compose.yaml's Grafana, and a compiler.
PACKAGES = ("@grafana/schema@12.2.0", "typescript@5.9.3")
_KINDS = {
    "timeseries": ("timeseries", "TimeSeriesPanelCfg"),
    "stat": ("stat", "StatPanelCfg"),
    "bargauge": ("bargauge", "BarGaugePanelCfg"),
    "table": ("table", "TablePanelCfg"),
    "heatmap": ("heatmap", "HeatmapPanelCfg"),
}
#: Of annotations and variables of the Prometheus data source, whose types are no part of the package.
_OF_THE_PLUGIN = ("expr", "step", "titleFormat", "definition")
_RAW = "@grafana/schema/dist/types/raw"


def with_unions(folder: Path) -> None:
    """Turn the enumerations in installed type files into unions."""
    for file in (folder / "node_modules" / "@grafana" / "schema" / "dist" / "types").rglob("*.d.ts"):
        text = file.read_text()
        if "enum " in text:
            file.write_text(re.sub(r"export declare enum (\w+) \{(.*?)\}", _union, text, flags=re.DOTALL))


def _union(found: re.Match[str]) -> str:
    values = re.findall(r"= (\"[^\"]*\"|-?\d+)", found[2])
    return f"export type {found[1]} = {' | '.join(values)};"


def program(board: dict[str, Any]) -> str:
    """TypeScript that assigns the dashboard, and each panel's options and custom fields, to their types."""
    lines = [f"import type {{ Dashboard, Panel, RowPanel }} from '{_RAW}/dashboard/x/dashboard_types.gen';"]
    for kind, (folder, name) in _KINDS.items():
        lines.append(
            f"import type * as {kind} from '{_RAW}/composable/{folder}/panelcfg/x/{name}_types.gen';"
        )
    whole = json.loads(json.dumps({**board, "panels": []}))
    for part in (*whole["annotations"]["list"], *whole["templating"]["list"]):
        for name in _OF_THE_PLUGIN:
            part.pop(name, None)
    lines.append(f"const board: Dashboard = {json.dumps(whole)};")
    inside = [panel for row in board["panels"] for panel in row.get("panels", ())]
    for number, panel in enumerate((*board["panels"], *inside)):
        if panel["type"] == "row":
            lines.append(f"const p{number}: RowPanel = {json.dumps({**panel, 'panels': []})};")
            continue
        lines.append(f"const p{number}: Panel = {json.dumps(panel)};")
        kind = panel["type"]
        lines.append(f"const o{number}: Partial<{kind}.Options> = {json.dumps(panel['options'])};")
        if custom := panel["fieldConfig"]["defaults"].get("custom"):
            lines.append(f"const c{number}: Partial<{kind}.FieldConfig> = {json.dumps(custom)};")
    return "\n".join([*lines, "export {};", ""])

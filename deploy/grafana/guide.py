"""The panels' part of docs/observability.md: a picture and a table for each dashboard."""

from collections.abc import Iterable

from deploy.grafana.model import Dashboard, Panel

BEGIN = "<!-- Panels: written by `python -m deploy.grafana` from the dashboards' own texts. -->"
END = "<!-- End of the panels. -->"


def with_panels(page: str, dashboards: Iterable[Dashboard]) -> str:
    """The page with the text between `BEGIN` and `END` made anew.

    Raises:
        ValueError: the page lacks one of them.
    """
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return "\n".join([before + BEGIN, *(line for d in dashboards for line in _section(d)), "", END + after])


def _section(dashboard: Dashboard) -> list[str]:
    name = dashboard.title.removeprefix("RLAD / ")
    lines = ["", f"### {name}", "", dashboard.text, "", f"![{name}](images/{dashboard.uid}.png)"]
    for row in dashboard.rows:
        lines += [
            "",
            f"**{row.title}**",
            "",
            "| panel | tells | normal | otherwise |",
            "| --- | --- | --- | --- |",
        ]
        lines += [_line(panel) for panel in row.panels]
    return lines


def _line(panel: Panel) -> str:
    title = panel.title.replace("$percentile", "the chosen percentile")
    return f"| {title} | {panel.tells} | {panel.normal} | {panel.otherwise} |"

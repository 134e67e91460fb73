"""Units, places on a dashboard, variables in queries, and what is said where there is no Prometheus."""

from pathlib import Path

import pytest

from deploy.grafana.__main__ import DASHBOARDS
from deploy.grafana.answers import Answer, View, substitute
from deploy.grafana.drawing import draw
from deploy.grafana.guide import BEGIN, END, with_panels
from deploy.grafana.model import Panel, Place, Query, Row, layout
from deploy.grafana.prove import empty_queries
from deploy.grafana.units import shown
from deploy.prometheus.executables import MissingError, executables
from deploy.prometheus.server import Series
from rlad_core.metric_specs import LABELS
from services.serve.http.refusals import PROXY


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (90, "s", "1.5 min"),
        (1500, "ms", "1.5 s"),
        (0, "s", "0 s"),
        (0.256, "percentunit", "25.6%"),
        (3 * 2**30, "bytes", "3 GiB"),
        (0, "bytes", "0 B"),
        (1234, "short", "1.23 k"),
        (-1234, "short", "-1.23 k"),
        (2.5, "reqps", "2.5 req/s"),
        (0.0002, "sci", "0.0002"),
        (1234567, "none", "1.235e+06"),
        (float("nan"), "s", "nan"),
    ],
)
def test_a_number_as_people_read_it(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def panel(title: str, width: int, kind: str = "timeseries") -> Panel:
    return Panel(title, [Query("up", "")], "none", "T.", "N.", "O.", kind=kind, width=width)  # type: ignore[arg-type]


def test_panels_flow_from_left_to_right() -> None:
    stats = Row("first", [panel("a", 12, "stat"), panel("b", 12, "stat")])
    lines = Row("second", [panel("c", 16), panel("d", 8), panel("e", 16), panel("f", 16)])
    placed = [
        (row.title, title, [where for _, where in panels]) for row, title, panels in layout([stats, lines])
    ]
    assert placed == [
        ("first", Place(0, 0, 24, 1), [Place(0, 1, 12, 4), Place(12, 1, 12, 4)]),
        (
            "second",
            Place(0, 5, 24, 1),
            [Place(0, 6, 16, 8), Place(16, 6, 8, 8), Place(0, 14, 16, 8), Place(0, 22, 16, 8)],
        ),
    ]


def test_each_query_of_a_panel_has_to_have_data() -> None:
    full, missing, optional = Query("a", "full"), Query("b", "missing"), Query("c", "optional", "it is rare")
    one = Panel("title", [full, missing, optional], "none", "T.", "N.", "O.")
    found = [("x", Series({}, [(0.0, 1.0)]))]
    answers = [Answer(full, "a", found), Answer(missing, "b", []), Answer(optional, "c", [])]
    assert empty_queries([(one, answers)]) == ["title: missing"]


def test_panels_are_drawn_with_data_and_without(tmp_path: Path) -> None:
    board = DASHBOARDS[0]
    full = {
        panel.title: [
            Answer(query, query.expr, [("x", Series({"stage": "x"}, [(0.0, 1.0), (60.0, 2.0)]))])
            for query in panel.queries
        ]
        for panel in board.panels
    }
    empty = {
        panel.title: [Answer(query, query.expr, []) for query in panel.queries] for panel in board.panels
    }
    for name, answers in (("full", full), ("empty", empty)):
        draw(board, answers, View(0, 60), tmp_path / f"{name}.png")
    assert (tmp_path / "full.png").read_bytes() != (tmp_path / "empty.png").read_bytes()


def test_variables_are_replaced_whole_and_none_is_forgotten() -> None:
    values = {"run": "a", "__range": "60s", "__rate_interval": "4s"}
    assert substitute('x{run="$run"}[$__range] "$1" $__rate_interval', values) == 'x{run="a"}[60s] "$1" 4s'
    with pytest.raises(KeyError, match="runs"):
        substitute("$runs", values)


def test_the_guide_s_own_text_stays() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    made = with_panels(page, [])
    assert made.startswith("before\n")
    assert made.endswith(f"{END}\nafter\n")
    assert "old" not in made
    assert with_panels(made, []) == made


def test_without_prometheus_and_apt_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingError, match="not on PATH, and there is no apt-get"):
        executables()


def test_programs_on_the_path_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("prometheus", "promtool"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert executables() == {name: tmp_path / name for name in ("prometheus", "promtool")}


def test_what_no_service_sees_is_counted_under_a_label_that_the_page_names() -> None:
    assert f"`{PROXY}`" in LABELS["service"]

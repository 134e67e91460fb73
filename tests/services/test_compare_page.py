"""The report of a comparison in a browser: it draws without a network, tells values, hides what is clicked.

Skipped where there is no Chromium with its driver (Debian: ``apt-get install chromium chromium-driver``).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from carried_out import carry_out, suite
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from services.compare.members import members_of
from services.compare.page import write
from services.compare.results import results_of

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
LIMIT_S = 30

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with chromedriver here")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """The page of a comparison whose two methods have two seeds each."""
    folder = tmp_path_factory.mktemp("compared")
    wanted = suite()
    members = members_of(wanted, folder, {})
    for member in members:
        carry_out(member, {"trrd": 0.9, "grpo": 0.4}[member.variant], samples=4)
    page = write(results_of(wanted, members, {}), folder)

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")  # no network
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(executable_path=str(DRIVER)))
    try:
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def narrow(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A page with many long names, as wide as a telephone, in a tab of its own."""
    label = 'method {}, which has a rather "long" name and settings of its own: alpha 0.5, beta 0.08'
    wanted = suite(variants={f"v{each}": {"label": label.format(each)} for each in range(6)})
    members = members_of(wanted, tmp_path, {})
    for member in members:
        carry_out(member, 0.5)
    page = write(results_of(wanted, members, {}), tmp_path)
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    size = {"width": 500, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(page.as_uri())
        yield browser
    finally:
        browser.close()
        browser.switch_to.window(first)


def plot(browser: webdriver.Chrome) -> WebElement:
    """Accuracy on held-out problems, in view."""
    found = browser.find_element(By.ID, "plot-held_out")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    return found


def shown(browser: webdriver.Chrome) -> dict[str, Any]:
    """Which lines of it are to be seen, by name; bands have none."""
    script = """
        const plot = document.getElementById("plot-held_out");
        return plot._fullData.map(line => [line.name, line.legendgroup, line.visible, line.fill]);
    """
    return {
        ("band of " + group if fill == "toself" else name): visible
        for name, group, visible, fill in browser.execute_script(script)
    }


def click_on(browser: webdriver.Chrome, name: str) -> None:
    for entry in plot(browser).find_elements(By.CSS_SELECTOR, ".legend .traces"):
        if entry.find_element(By.CSS_SELECTOR, ".legendtext").text == name:
            entry.find_element(By.CSS_SELECTOR, ".legendtoggle").click()
            return
    raise AssertionError(f"the legend has no {name}")


def test_every_figure_is_drawn_and_nothing_is_asked_for(browser: webdriver.Chrome) -> None:
    figures = browser.find_elements(By.CSS_SELECTOR, "figure")
    line = "figure .js-plotly-plot .scatterlayer .trace path.js-line"
    WebDriverWait(browser, LIMIT_S).until(
        lambda _: len(browser.find_elements(By.CSS_SELECTOR, line)) >= 2 * len(figures), "two lines a figure"
    )
    assert len(figures) >= 5
    asked = "return performance.getEntriesByType('resource').map(each => each.name)"
    assert [each for each in browser.execute_script(asked) if not each.startswith("data:")] == []
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def test_a_band_has_no_points(browser: webdriver.Chrome) -> None:
    script = """
        const lines = document.getElementById("plot-held_out")._fullData;
        return lines.filter(line => line.fill == "toself").map(band => band.mode);
    """
    assert browser.execute_script(script) == ["lines", "lines"]


def test_the_names_leave_the_curves_their_room(narrow: webdriver.Chrome) -> None:
    WebDriverWait(narrow, LIMIT_S).until(
        lambda _: plot(narrow).find_elements(By.CSS_SELECTOR, ".legend .traces"), "a legend"
    )
    area, legend = (
        plot(narrow).find_element(By.CSS_SELECTOR, each).rect for each in (".nsewdrag", ".legend")
    )
    assert area["height"] > 200
    assert area["width"] > 300
    assert legend["y"] >= area["y"] + area["height"]
    assert legend["x"] + legend["width"] <= 500
    names = [each.text for each in plot(narrow).find_elements(By.CSS_SELECTOR, ".legend .legendtext")]
    assert 'a rather "long"' in names[0]
    assert len(names) == 6 * 3


def test_without_scripts_a_reader_is_told_where_the_curves_are(narrow: webdriver.Chrome) -> None:
    narrow.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    narrow.refresh()
    assert "plots/ beside this page has them as PNGs" in narrow.find_element(By.TAG_NAME, "body").text


def test_a_curve_tells_its_value_where_it_is_pointed_at(browser: webdriver.Chrome) -> None:
    area = plot(browser).find_element(By.CSS_SELECTOR, ".nsewdrag")
    end = "return document.getElementById('plot-held_out')._fullLayout.xaxis.l2p(4)"
    from_the_middle = int(browser.execute_script(end) - area.rect["width"] / 2) - 2
    ActionChains(browser).move_to_element_with_offset(area, from_the_middle, 0).perform()

    def said(_: webdriver.Chrome) -> list[str]:
        return [each.text for each in plot(browser).find_elements(By.CSS_SELECTOR, ".hoverlayer text")]

    step, first, second = WebDriverWait(browser, LIMIT_S).until(said)
    assert step == "4"
    assert re.fullmatch(r"TRRD : (8|9)\d\.\d% \(.*%\)", first)
    assert re.fullmatch(r"grpo : (3|4)\d\.\d% \(.*%\)", second)


def test_methods_and_runs_are_switched_off_and_on(browser: webdriver.Chrome) -> None:
    before = shown(browser)
    assert before["TRRD"] is before["band of TRRD"] is before["grpo"] is True
    assert before["TRRD, seed 0"] == "legendonly"

    def click(name: str, *, shows: dict[str, Any]) -> None:
        click_on(browser, name)
        WebDriverWait(browser, LIMIT_S).until(lambda _: shown(browser) == shows, f"{name} was clicked on")

    off = {**before, "TRRD": "legendonly", "band of TRRD": "legendonly"}
    click("TRRD", shows=off)
    click("TRRD, seed 1", shows={**off, "TRRD, seed 1": True})
    click("TRRD, seed 1", shows=off)
    click("TRRD", shows=before)

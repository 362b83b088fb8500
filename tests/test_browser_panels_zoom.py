"""Every panel at twice the size, where a page of 1,280 pixels has room for 640: nothing is cut off."""

from __future__ import annotations

import pytest
from browser import needs_chromium, open_notebook, run_cell, screenshot
from test_panels_static import SETUP, SHOWN

pytestmark = needs_chromium

# Controls and texts that reach over the right edge of their panel, where nothing scrolls them into view.
CUT_OFF = """panel => {
  const edge = panel.getBoundingClientRect().right + 1;
  const scrolls = element => element !== panel && (
    ['auto', 'scroll'].includes(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
  return [...panel.querySelectorAll('button, input, select, textarea, label, td, th, p, div')]
    .filter(each => each.offsetWidth && each.getBoundingClientRect().right > edge && !scrolls(each.parentElement))
    .map(each => each.outerHTML.slice(0, 120));
}"""


@pytest.fixture(scope="module")
def panels(page, lab):
    """Each panel by its name, all in one notebook."""
    open_notebook(page, lab, "zoom", SETUP, *(code for code, _ in SHOWN.values()))
    run_cell(page)
    shown = {name: run_cell(page, number).locator(".chatlab-panel").first for number, name in enumerate(SHOWN, start=1)}
    for panel in shown.values():
        panel.wait_for()
    page.set_viewport_size({"width": 640, "height": 800})
    page.wait_for_timeout(1000)
    yield shown
    page.set_viewport_size({"width": 1280, "height": 1600})


@pytest.mark.parametrize("name", SHOWN)
def test_nothing_is_cut_off_at_200_percent(panels, name):
    panels[name].scroll_into_view_if_needed()
    screenshot(panels[name], f"zoom-{name}")
    assert panels[name].evaluate(CUT_OFF) == []

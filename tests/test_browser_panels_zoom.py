"""Every panel at twice the size, where a page of 1,280 pixels has room for 640: nothing is cut off."""

from __future__ import annotations

import pytest
from browser import needs_chromium, screenshot, show_panel
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


@pytest.mark.parametrize("name", SHOWN)
def test_nothing_is_cut_off_at_200_percent(page, lab, name):
    page.set_viewport_size({"width": 1280, "height": 1600})
    panel = show_panel(page, lab, f"zoom-{name}", f"{SETUP}\n{SHOWN[name][0]}")
    page.set_viewport_size({"width": 640, "height": 800})
    try:
        page.wait_for_timeout(1000)
        screenshot(panel, f"zoom-{name}")
        assert panel.evaluate(CUT_OFF) == []
    finally:
        page.set_viewport_size({"width": 1280, "height": 1600})

"""What a learner sees of the views and magics in real JupyterLab, in its light and its dark theme."""

from __future__ import annotations

import time

import nbformat
import pytest
from browser import needs_chromium, open_lesson, run_all_cells, screenshot

pytestmark = needs_chromium

CELLS = [
    "import chatlab\nfrom chatlab.testing import ScriptedModel\nmodel = ScriptedModel('A tale of the sea. ' * 15)\n"
    "chatlab.trace('Hi', model=model, temperature=0, max_completion_tokens=250).what_if(3, 'X').show()",
    "chatlab.render([chatlab.system('Be brief.'), chatlab.user('Hi <|im_end|>')], model=model)",
    "%load_ext chatlab",
    "%%chat?",
    "chatlab",
]
# The contrast of an element's text with what is behind it, as WCAG 2 defines it, with every half-transparent layer.
CONTRAST = """element => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1] };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = color => { const [r, g, b] = color.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  let layers = [], opacity = 1;
  for (let each = element; each; each = each.parentElement) {
    const style = getComputedStyle(each);
    layers.push(parse(style.backgroundColor)); opacity *= Number(style.opacity) };
  const behind = layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  const text = parse(getComputedStyle(element).color); text[3] *= opacity;
  const [a, b] = [light(over(text, behind)), light(behind)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) }"""
# Where the card of an element ends, against the frame of its view; null where no card is shown.
CARD = """element => {
  const style = getComputedStyle(element, '::after'), reply = element.closest('.chatlab-reply').getBoundingClientRect();
  if (style.content === 'none') return null;
  const px = name => parseFloat(style[name]), frame = element.closest('.chatlab').getBoundingClientRect();
  return { text: style.content, left: reply.left + px('left') - frame.left,
    right: frame.right - reply.left - px('left') - px('width'),
    bottom: frame.bottom - reply.top - px('top') - px('height'),
    below: reply.top + px('top') - element.getClientRects()[0].top } }"""


@pytest.fixture(scope="module")
def notebook(lab, page):
    """The page, with a notebook of views open and run."""
    path = lab.folder / "views.ipynb"
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    open_lesson(page, lab, path.name)
    outputs = [output for cell in run_all_cells(page, path) for output in cell.outputs]
    assert [output for output in outputs if output.output_type in ("error", "stream")] == []
    return page


def use_theme(page, theme):
    page.click(".lm-MenuBar-itemLabel:text-is('Settings')")
    page.hover(".lm-Menu-itemLabel:text-is('Theme')")
    page.click(f".lm-Menu-itemLabel:text-is('JupyterLab {theme}')")
    light = "true" if theme == "Light" else "false"
    page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")
    time.sleep(1)  # the theme's colours come with a style sheet that is loaded now


def test_alternatives_show_on_hover_and_on_focus_and_are_cut_off_nowhere(notebook):
    steps = notebook.locator(".chatlab-reply .chatlab-step")
    steps.first.scroll_into_view_if_needed()
    boxes = [box.bounding_box() for box in steps.all()]
    rightmost = max(range(len(boxes)), key=lambda number: boxes[number]["x"] + boxes[number]["width"])
    assert boxes[-1]["y"] > boxes[0]["y"], "the reply has several lines"
    for number in (0, 3, rightmost, len(boxes) - 1):
        steps.nth(number).hover()
        card = steps.nth(number).evaluate(CARD)
        assert card["text"].startswith(f'"step {number}, ') and "likeliest: " in card["text"]
        assert min(card["left"], card["right"], card["bottom"]) >= 0 and 10 < card["below"] < 40
    screenshot(notebook, "trace-hover")
    notebook.mouse.move(0, 0)
    steps.nth(3).focus()
    notebook.keyboard.press("Tab")
    assert steps.nth(3).evaluate(CARD) is None and "step 4, " in steps.nth(4).evaluate(CARD)["text"]
    assert notebook.evaluate("document.activeElement.getAttribute('aria-label')").startswith("step 4, ")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_text_stands_out_from_what_is_behind_it(notebook, theme):
    use_theme(notebook, theme)
    for part in (".chatlab-step", ".chatlab-prompt", ".chatlab-prompt .chatlab-control", ".chatlab-note"):
        found = notebook.locator(f".jp-OutputArea {part}")
        contrasts = found.evaluate_all(f"elements => elements.map({CONTRAST})")
        assert contrasts and min(contrasts) >= 4.5, part
    colors = notebook.locator(".jp-OutputArea .chatlab-prompt").evaluate("element => getComputedStyle(element).color")
    assert (sum(map(int, colors.strip("rgba()").split(",")[:3])) < 380) == (theme == "Light")
    screenshot(notebook, f"views-{theme.lower()}")


def test_magics_complete_and_help(notebook):
    assert "--temperature T" in notebook.locator(".jp-OutputArea-output:has-text('Docstring')").inner_text()
    cell = notebook.locator(".jp-Cell .cm-content").last
    for written, options in [
        ("%%chat --sys", ["--system"]),
        ("%%chat --t", ["--temperature", "--top-p"]),
        ("%tokens --", ["--encoding"]),
    ]:
        cell.click()
        notebook.keyboard.press("Control+a")
        notebook.keyboard.type(written, delay=50)
        notebook.keyboard.press("Tab")
        notebook.wait_for_selector(".jp-Completer-item")
        shown = [item.inner_text().split("\n") for item in notebook.locator(".jp-Completer-item").all()]
        assert [option for _, option, *_ in shown] == options
        notebook.keyboard.press("Enter")
        assert cell.inner_text() == f"{written.split()[0]} {options[0]}"

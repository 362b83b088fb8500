"""What the tests in a browser share: the controls of a panel, used as people use them, and a check of them all.

In: a panel or a control on a page of Chromium. Out: real keys and clicks, and which controls have seen them. Knows
nothing of what any panel is for.
"""

from __future__ import annotations

import time
from pathlib import Path

from playwright.sync_api import expect

WATCH = (Path(__file__).parent / "controls.js").read_text(encoding="utf-8")
MOST_TABS = 150  # more stops than any panel has
SECONDS_TO_SETTLE = 0.25  # after a step of a number: it goes to Python and comes back

# Which key brings the focus nearer to a control; nothing once it is there. Radio buttons of one name are one stop, and
# so is a row of tokens: arrow keys go along it.
TOWARDS = """control => {
  const now = document.activeElement, panel = control.closest('.chatlab-panel');
  if (now === control || (control.type === 'radio' && now.type === 'radio' && now.name && now.name === control.name))
    return '';
  if (!panel.contains(now)) {  // as if one came from above the panel
    panel.tabIndex = -1;
    panel.focus();
    panel.addEventListener('blur', () => panel.removeAttribute('tabindex'), { once: true });
    return 'Tab';
  }
  const back = now.compareDocumentPosition(control) & Node.DOCUMENT_POSITION_PRECEDING;
  const row = now.closest('.chatlab-token-row');
  if (row && row === control.closest('.chatlab-token-row')) return back ? 'ArrowLeft' : 'ArrowRight';
  return back ? 'Shift+Tab' : 'Tab' }"""

FOCUSED = """() => {
  const now = document.activeElement;
  return `${now.localName} “${(now.ariaLabel || now.labels?.[0]?.textContent || now.textContent).slice(0, 20)}”` }"""


def watch(panel):
    """From now on, note which controls of the panel are used with the mouse and which with the keyboard."""
    panel.evaluate(WATCH)


def check_every_control(panel):
    """Fail unless each control that could be used since `watch` was used both ways; say which were not."""
    used = panel.evaluate("panel => panel.controlsUsed()")
    assert used, "the panel has no controls"
    missing = {how: [each["name"] for each in used if not each[how]] for how in ("mouse", "keyboard")}
    assert not any(missing.values()), "\n".join(
        f"not used with the {how}: {', '.join(names)}" for how, names in missing.items() if names
    )


def tab_to(control):
    """Bring the focus to a control by Tab and Shift+Tab alone; raise `AssertionError` where they do not lead to it."""
    expect(control).to_be_enabled()
    keyboard, turns, last, way = control.page.keyboard, 0, None, []
    if control.evaluate("control => control === document.activeElement"):  # a script may have brought it here
        keyboard.press("Tab")
    for _ in range(MOST_TABS):
        key = control.evaluate(TOWARDS)
        if not key:
            return
        turns, last = turns + (key != last), key
        if turns > 3:  # past it, back, and past it again
            break
        keyboard.press(key)
        way.append(f"{key} to {control.page.evaluate(FOCUSED)}")
    raise AssertionError(f"Tab does not lead to {control}: {', '.join(way)}")


def press(control, key="Enter"):
    """Go to a control by Tab and press a key there."""
    tab_to(control)
    control.page.keyboard.press(key)


def type_into(field, text):
    """Go to a field by Tab and type in place of what stands there."""
    press(field, "Control+a")
    field.page.keyboard.type(text)


def choose(control, option=None):
    """Go to a list or a group of radio buttons by Tab and move to an option by arrow keys.

    A list takes the words of its option; of radio buttons, `control` is the one to choose.
    """
    tab_to(control)
    keyboard = control.page.keyboard
    if option is None:
        keyboard.press("Space")
        for _ in range(MOST_TABS):
            if control.is_checked():
                return
            keyboard.press("ArrowDown")
    else:
        texts = [text.replace("\xa0", " ") for text in control.locator("option").all_text_contents()]
        steps = texts.index(option) - control.evaluate("list => list.selectedIndex")
        for _ in range(abs(steps)):
            keyboard.press("ArrowDown" if steps > 0 else "ArrowUp")
        if control.evaluate("list => list.selectedIndex") == texts.index(option):
            return
    raise AssertionError(f"arrow keys do not lead to {option or control}")


def step(field, key, times=1):
    """Go to a field for a number by Tab and press an arrow key, as slowly as a person does."""
    tab_to(field)
    for _ in range(times):
        field.page.keyboard.press(key)
        time.sleep(SECONDS_TO_SETTLE)


def use_both_ways(control):
    """Click on a control, then go to it by Tab and use it by keys: the smallest change that each kind of it allows."""
    kind = control.evaluate("control => control.localName === 'input' ? control.type : control.localName")
    control.click()
    if kind == "select":
        control.page.keyboard.press("Escape")
        choose(control, control.locator("option:not(:checked)").first.text_content())
    elif kind == "number":
        at_most = control.evaluate("field => field.max !== '' && Number(field.value) >= Number(field.max)")
        step(control, "ArrowDown" if at_most else "ArrowUp")
    elif kind in ("text", "textarea"):
        type_into(control, "7")
    else:
        press(control, "Space")


def pick(control, option):
    """Choose from a list with the mouse; its options are drawn by the system, where no test can click."""
    control.click()
    control.page.keyboard.press("Escape")
    control.select_option(option)

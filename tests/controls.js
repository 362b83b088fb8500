// Watches a panel in a page: which of its controls have been used with the mouse, and which with the keyboard alone.
//
// In: the element of the panel. Out: `panel.controlsUsed()`, a list of {name, mouse, keyboard}, one for each control
// that could be used at any time since. With the mouse means a click on it or on its label. With the keyboard means
// that a key brought the focus to it, and another one made it do something. Only what the browser itself takes for a
// real event counts, so a script in the page or a test cannot cheat.
panel => {
  const CONTROLS = 'button, input, textarea, select, summary, a[href]';
  const GROUPS = '.widget-radio-box, .chatlab-token-row'; // many choices, but one control
  const byName = new Map(), byElement = new WeakMap();
  let keyIsDown = false, reachedByKey = null;

  const words = element => (element?.textContent ?? '').trim().replace(/\s+/g, ' ');
  const usable = element => !element.disabled && element.checkVisibility({ visibilityProperty: true });

  function nameOf(element) {
    const around = element.closest('.chatlab-panel'); // a panel may hold others
    const place = around === panel ? '' : `${1 + [...panel.querySelectorAll('.chatlab-panel')].indexOf(around)}: `;
    const row = element.closest('.chatlab-token-row')?.querySelector('.widget-label');
    const first = element.closest('.widget-radio-box')?.querySelector('input') ?? element;
    const own = words(row) || element.getAttribute('aria-label') || words(first.labels?.[0]) || words(element);
    return `${place}${element.localName === 'input' ? element.type : element.localName} “${(own || element.title).slice(0, 60)}”`;
  }

  function recordOf(element) {
    const key = element.closest(GROUPS) ?? element;
    if (byElement.has(key)) return byElement.get(key);
    const base = nameOf(element);
    let name = base;
    // A control that was made anew is still the same one; a second one that is there beside the first is not.
    const isThere = record => record?.element.isConnected && nameOf(record.element) === record.base;
    for (let number = 2; isThere(byName.get(name)); number++) name = `${base} (${number})`;
    const record = byName.get(name) ?? { name, base, mouse: false, keyboard: false };
    record.element = element;
    byName.set(name, record);
    byElement.set(key, record);
    return record;
  }

  function look() {
    for (const element of panel.querySelectorAll(CONTROLS)) if (usable(element)) recordOf(element);
  }

  function controlOf(target) {
    const control = target.closest?.(CONTROLS) ?? target.closest?.('label')?.control;
    return control && panel.contains(control) ? control : null;
  }

  const listen = (type, react) => window.addEventListener(type, event => event.isTrusted && react(event), true);
  listen('keydown', () => { keyIsDown = true; });
  listen('keyup', () => { keyIsDown = false; });
  listen('focusin', event => { reachedByKey = keyIsDown ? event.target : null; });
  listen('click', event => {
    const control = controlOf(event.target);
    if (!control) return;
    if (event.detail > 0) recordOf(control).mouse = true;
    else if (control === reachedByKey) recordOf(control).keyboard = true; // Enter or Space
  });
  listen('input', event => {
    if (keyIsDown && event.target === reachedByKey && panel.contains(event.target)) recordOf(event.target).keyboard = true;
  });

  new MutationObserver(look).observe(panel, {
    subtree: true, childList: true, attributes: true, attributeFilter: ['disabled', 'style', 'class', 'hidden'],
  });
  look();
  panel.controlsUsed = () => {
    look();
    return [...byName.values()].map(({ name, mouse, keyboard }) => ({ name, mouse, keyboard }));
  };
}

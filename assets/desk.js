/* The context meter: what is in the box is counted by the server a moment after the last key. */
(() => {
  'use strict';

  const MAX_CHARS = 200000; // beyond this every pause would send more than it tells
  let part = null;
  let waiting = 0;

  function ask() {
    const box = document.getElementById('ask');
    if (!part || !box || box.value.length > MAX_CHARS) return;
    const { key } = document.body.dataset;
    part.trigger('measure', { key, text: box.value, language: document.documentElement.lang });
  }

  function soon() {
    clearTimeout(waiting);
    waiting = setTimeout(ask, 400);
  }

  function paint() {
    const { value } = part.props;
    const meter = document.getElementById('meter');
    if (!meter || !value || typeof value !== 'object') return;
    meter.textContent = value.line;
    meter.className = `hint ${value.tone}`;
    meter.style.setProperty('--share', `${Math.min(100, value.share)}%`);
  }

  /* Gradio mounts the parts in any order. */
  function begin(given) {
    const shown = document.getElementById('window');
    if (!shown) { requestAnimationFrame(() => begin(given)); return; }
    part = given;
    part.watch('value', paint);
    document.addEventListener('input', (event) => { if (event.target.id === 'ask') soon(); });
    document.addEventListener('visibilitychange', soon); // also when a dialog was closed
    new MutationObserver(soon).observe(shown, { childList: true, subtree: true });
    soon();
  }

  const early = window.corralMeter || [];
  window.corralMeter = { push: begin };
  early.forEach(begin);
})();

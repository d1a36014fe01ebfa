/* The context meter: what is in the box is counted by the server a moment after the last key. Files
   were counted when they were taken; one that was not is counted with the text. */

import { byId, going, language, later } from './state.js';

const MAX_CHARS = 200000; // beyond this every pause would send more than it tells
let part = null;

function ask() {
  const files = Array.from(document.querySelectorAll('#files .file:not(.busy)'));
  const uncounted = files.filter((file) => !file.dataset.tokens).map((file) => file.querySelector('pre').textContent);
  const text = [byId('ask').value, ...uncounted].join('\n\n').trimEnd();
  if (text.length > MAX_CHARS) return;
  const attached = files.reduce((sum, file) => sum + Number(file.dataset.tokens || 0), 0);
  part.trigger('measure', { key: going(), text, attached, language: language() });
}

const soon = later(ask, 400);

function paint() {
  const { value } = part.props;
  const meter = byId('meter');
  if (!meter || !value || typeof value !== 'object') return;
  meter.textContent = value.line;
  meter.className = `hint ${value.tone}`;
  meter.style.setProperty('--share', `${Math.min(100, value.share)}%`);
}

/* Gradio mounts the parts in any order. */
export function serveMeter(given) {
  if (!byId('window') || !byId('ask')) { requestAnimationFrame(() => serveMeter(given)); return; }
  part = given;
  part.watch('value', paint);
  document.addEventListener('input', (event) => { if (event.target.id === 'ask') soon(); });
  document.addEventListener('visibilitychange', soon); // also when a dialog was closed
  new MutationObserver(soon).observe(byId('window'), { childList: true, subtree: true });
  new MutationObserver(soon).observe(byId('files'), { childList: true });
  soon();
}

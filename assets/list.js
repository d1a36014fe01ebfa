/* The list at the side: opening, renaming, shelves, and the rows around those in view. */

import { byId, fire, going, insist, state, WINDOW, words } from './state.js';
import { emptyBox, keepDraft } from './write.js';

const ROW = 36; // pixels a row; the server sends those around the ones in view

export function open(key, id, temporary = false) {
  keepDraft();
  drawer(false);
  const { value } = byId('ask');
  const files = [...byId('files').children];
  if ((key || '') !== state.key) emptyBox();
  Object.assign(state, { last: WINDOW, temporary });
  insist('view', { key: key || null, id: id || null }, () => { // nothing came: as it was
    markOpen();
    if (!byId('ask').value) byId('ask').value = value;
    byId('files').prepend(...files);
  });
  markOpen();
}

export function rename(key, holder) {
  const title = holder.textContent;
  const opener = document.activeElement.closest('.conv')?.querySelector('a') || document.activeElement;
  const input = document.createElement('input');
  Object.assign(input, { className: 'rename', maxLength: 200, value: title });
  input.setAttribute('aria-label', words.rename_label);
  let ended = false;
  const end = (keep) => {
    if (ended) return;
    ended = true;
    const held = document.activeElement === input;
    input.replaceWith(holder);
    if (held) opener.focus();
    const text = input.value.trim();
    if (!keep || !text || text === title) return;
    holder.textContent = text; // at once; the server's answer says the same
    if (key === state.key) {
      document.title = `${text} · Corral`;
      document.querySelector('#head h1')?.replaceChildren(text);
    }
    fire('rename', { key, text });
  };
  input.addEventListener('keydown', (event) => {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === 'Enter') end(true);
    if (event.key === 'Escape') end(false);
    event.stopPropagation();
  });
  input.addEventListener('click', (event) => event.preventDefault());
  input.addEventListener('blur', () => end(true));
  holder.replaceWith(input);
  input.focus();
  input.select();
}

export function shelf(mode, tag) {
  Object.assign(state, { mode, tag, first: 0 });
  byId('find').value = '';
  byId('listing').scrollTop = 0;
  fire('listing');
}

export function scrolled() {
  const first = Math.max(0, Math.floor(byId('listing').scrollTop / ROW) - 45);
  if (Math.abs(first - state.first) < 25 && (first || !state.first)) return;
  state.first = first;
  fire('listing');
}

export function drawer(show) {
  const on = show === undefined ? !document.body.classList.contains('drawer') : show;
  document.body.classList.toggle('drawer', on);
  const [close, opener] = document.querySelectorAll('[data-act="drawer"]');
  const held = byId('side').contains(document.activeElement);
  opener?.setAttribute('aria-expanded', String(on));
  if (on) close.focus(); // not the search: a phone would cover the list with its keyboard
  else if (held) opener?.focus();
}

export function markOpen() {
  for (const link of document.querySelectorAll('#listing .conv > a')) {
    if (link.dataset.key === going()) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

/* What is done at one message: editing, copying, its menu. */

import { byId, words } from './state.js';
import { send } from './write.js';

const unsent = new Map(); // what stood in the edits that were left: the page may have gone elsewhere

export function edit(turn) {
  if (turn.classList.contains('editing')) return;
  const form = byId('edit-form').content.firstElementChild.cloneNode(true);
  const area = form.querySelector('textarea');
  const bubble = turn.querySelector('.bubble');
  const files = turn.querySelector('.files');
  area.value = unsent.get(turn.id) ?? bubble.textContent;
  area.addEventListener('input', () => unsent.set(turn.id, area.value));
  area.rows = Math.min(16, Math.max(2, area.value.split('\n', 17).length + 1));
  if (files) area.after(files.cloneNode(true));
  turn.classList.add('editing');
  bubble.after(form);
  area.focus(); // at its end, where setting the value has put the cursor
}

export function endEdit(turn) {
  unsent.delete(turn.id);
  turn.classList.remove('editing');
  turn.querySelector('form.edit')?.remove();
  turn.querySelector('[data-act="edit"]')?.focus();
}

export function resend(turn) {
  send(turn.querySelector('form.edit'), turn.dataset.parent ? Number(turn.dataset.parent) : null);
}

export async function copy(text, control) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no permission, or a page without https: the old way
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'sr';
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  if (control.classList.contains('done')) return;
  const icon = control.matches('.plain'); // for a moment a tick stands in its place
  const label = icon ? control.title : control.textContent;
  const say = (told) => {
    if (icon) control.setAttribute('aria-label', told);
    else control.textContent = told;
    control.classList.toggle('done', told !== label);
  };
  say(words.copied);
  setTimeout(() => say(label), 1500);
}

/* The one menu of all answers: it opens at the button, for the answer that the button is of. */
export function placeMenu(control) {
  const box = byId('turn-menu');
  const { id } = control.closest('.turn').dataset;
  const { left, top, bottom } = control.getBoundingClientRect();
  for (const item of box.children) item.dataset.id = id;
  const above = top > innerHeight / 2;
  Object.assign(box.style, {
    left: `${Math.max(8, Math.min(left, innerWidth - 268))}px`,
    top: above ? 'auto' : `${bottom + 4}px`,
    bottom: above ? `${innerHeight - top + 4}px` : 'auto',
  });
}

export function moveInMenu(event) {
  const items = [...byId('turn-menu').children];
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const at = items.indexOf(document.activeElement);
  items[at < 0 ? (step > 0 ? 0 : items.length - 1) : (at + step + items.length) % items.length].focus();
}

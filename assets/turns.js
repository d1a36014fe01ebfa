/* What is done at one message: editing, copying. */

import { button } from './nodes.js';
import { words } from './state.js';
import { send } from './write.js';

export function edit(turn) {
  if (turn.classList.contains('editing')) return;
  const bubble = turn.querySelector('.bubble');
  const form = document.createElement('form');
  const area = document.createElement('textarea');
  form.className = 'edit';
  area.value = bubble.textContent;
  area.setAttribute('aria-label', words.edit_label);
  area.rows = Math.min(16, Math.max(2, area.value.split('\n', 17).length + 1));
  const row = document.createElement('div');
  const resend = button('resend', words.resend);
  resend.className = 'send';
  const cancel = button('cancel-edit', words.cancel);
  cancel.className = 'btn';
  row.append(cancel, resend);
  form.append(area, row);
  form.addEventListener('submit', (event) => event.preventDefault());
  turn.classList.add('editing');
  bubble.after(form);
  area.focus();
  area.setSelectionRange(area.value.length, area.value.length);
}

export function endEdit(turn) {
  turn.classList.remove('editing');
  const form = turn.querySelector('form.edit');
  if (form) form.remove();
  const again = turn.querySelector('[data-act="edit"]');
  if (again) again.focus();
}

export function resend(turn) {
  const parent = turn.dataset.parent ? Number(turn.dataset.parent) : null;
  send(turn.querySelector('form.edit textarea').value, parent, turn.querySelector('form.edit'));
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
  const label = control.textContent;
  if (label === words.copied) return;
  control.textContent = words.copied;
  setTimeout(() => { control.textContent = label; }, 1500);
}

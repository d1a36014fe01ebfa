/* The dialogs. The server renders them; this opens, closes and sends what was chosen. Anything with
   [data-panel] opens one, [data-panel-act] stands on the controls inside. */

import { answeredFile, sendFile } from './files.js';
import { open } from './list.js';
import { byId, going, language, nudge, state } from './state.js';

const dialog = document.createElement('dialog');
dialog.id = 'dialog';
dialog.setAttribute('aria-labelledby', 'panel-title');
const sheet = document.createElement('div');
const said = document.createElement('p'); // stays while the sheet is drawn anew, so it is read out
said.id = 'panel-said';
said.setAttribute('role', 'status');
dialog.append(sheet, said);

let part = null;
let place = ''; // the conversation that it was asked for beside
let wanted = ''; // the dialog that was asked for; what arrives for the other one is not shown
let dirty = false;
let polling = 0;
let next = ''; // the conversation to open once the dialog is closed

export function fireDialog(name, data) {
  part.trigger(name, { key: going(), temporary: state.temporary, language: language(), ...data });
  nudge();
}

function paint() {
  const { value } = part.props;
  if (!value || typeof value !== 'object' || value.kind === undefined) return;
  answeredFile(value);
  clearTimeout(polling);
  // Also while the dialog is closed: the line at the foot of the list comes with the answer.
  if (value.loading) polling = setTimeout(() => fireDialog('panel', { mode: 'models', on: true }), 700);
  else if (value.fetching && wanted === 'models') polling = setTimeout(() => fireDialog('fetch', { mode: 'follow' }), 700);
  if (!wanted || (value.kind && value.kind !== wanted)) return;
  if (!dialog.open && place !== going()) return; // asked for beside another conversation
  if (desk(value)) return;
  if (value.quiet) return; // a part was drawn, the rest of the sheet stays as it is
  if (value.html) draw(value);
  said.textContent = value.said || '';
  said.className = value.tone || '';
  if (!dialog.open) { wanted = ''; return; }
  if (value.tone === 'error') said.scrollIntoView({ block: 'nearest' });
}

/* What the dialogs on a conversation ask for beside a new sheet; true if the dialog is done. */
function desk(value) {
  if (value.poll) polling = setTimeout(() => fireDialog('panel', value.poll), 700);
  if (value.file) saveAs(value.file);
  if (value.into) {
    const place = byId(value.into);
    const held = document.activeElement.id;
    if (place) place.innerHTML = value.html;
    if (held && document.activeElement.id !== held) byId(held)?.focus();
    value.html = '';
  }
  if (!value.close) return false;
  dialog.close();
  if (value.insert) {
    const ask = byId('ask');
    ask.value = value.insert;
    ask.dispatchEvent(new Event('input', { bubbles: true }));
    ask.focus();
  }
  next = value.open || '';
  return true;
}

function saveAs({ name, text }) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'application/octet-stream' }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function draw(value) {
  const held = sheet.contains(document.activeElement) ? document.activeElement.id : '';
  const same = dialog.open && sheet.firstElementChild && sheet.firstElementChild.dataset.kind === value.kind;
  const unfolded = new Set(Array.from(sheet.querySelectorAll('details[open] > summary'), (s) => s.id));
  const scrolled = same ? sheet.querySelector('.sheet-body').scrollTop : 0;
  const keeps = same && !(value.said && value.tone === 'info'); // what was done is no longer typed
  const typed = keeps ? Array.from(sheet.querySelectorAll('.field'), (el) => [el.id, el.value]) : [];
  sheet.innerHTML = value.html;
  dirty = false;
  for (const [id, text] of typed) if (byId(id)) byId(id).value = text;
  if (same) for (const id of unfolded) byId(id)?.parentElement.setAttribute('open', '');
  if (!dialog.isConnected) byId('app').append(dialog);
  if (!dialog.open) dialog.showModal();
  sheet.querySelector('.sheet-body').scrollTop = scrolled;
  const again = held && byId(held);
  if (again && !again.disabled) again.focus({ preventScroll: true });
  else byId('panel-title').focus({ preventScroll: true });
}

/* The limits as the server keeps policies: [action, limit] for the usual ones, and the rules. */
function limits(table) {
  const overall = {};
  const rules = [];
  const allowed = table.querySelector('.may-override');
  for (const rule of table.querySelectorAll('.rule')) {
    const { category, side } = rule.dataset;
    const action = rule.querySelector('select').value;
    const limit = rule.querySelector('input').valueAsNumber;
    if (!category) overall[side] = [action, limit];
    else if (action !== 'usual') rules.push([category, side, action, limit]);
  }
  return JSON.stringify({ overall, rules, may_override: Boolean(allowed && allowed.checked) });
}

function save(el) {
  const table = el.closest('details');
  const wrong = table.querySelector('.rule input:invalid');
  if (wrong) { wrong.reportValidity(); return; }
  fireDialog('policy', { mode: el.dataset.mode, text: limits(table) });
}

/* One event with what the button names: a text of its own, or fields (several as JSON). */
function send(el) {
  const { event, mode, text, fields } = el.dataset;
  const values = (fields || '').split(' ').filter(Boolean).map((id) => byId(id).value);
  fireDialog(event, { mode, text: !fields ? text : values.length > 1 ? JSON.stringify(values) : values[0] });
}

const whole = (text) => (text ? Number(text) : null);

/* What a control of those dialogs asks, with the form around it. */
function tell(el) {
  const form = el.closest('form');
  const wrong = form && form.querySelector('input:invalid');
  if (wrong) { wrong.reportValidity(); return; }
  const fields = form ? Object.fromEntries(new FormData(form)) : {};
  if (el.tagName === 'BUTTON' && el.name) fields[el.name] = el.value;
  const { mode, id, parent } = el.dataset;
  fireDialog('desk', { mode, id: whole(id), parent: whole(parent), text: JSON.stringify(fields) });
}

const act = {
  desk: (el) => { if (el.tagName === 'BUTTON') tell(el); },
  close: () => dialog.close(),
  leave: () => fetch('/corral/leave', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' })
    .finally(() => location.replace('/')),
  save,
  send,
};

document.addEventListener('click', (event) => {
  const opener = event.target.closest('[data-panel]');
  if (opener && part) {
    wanted = opener.dataset.panel;
    place = going();
    said.textContent = '';
    fireDialog(wanted === 'inspect' ? wanted : 'panel', { mode: wanted, id: whole(opener.dataset.id), text: opener.dataset.text });
  }
});

dialog.addEventListener('click', (event) => {
  const el = event.target.closest('[data-panel-act]');
  if (el) act[el.dataset.panelAct](el);
  else if (event.target === dialog && !dirty) dialog.close(); // beside the sheet
});

dialog.addEventListener('change', (event) => {
  if (event.target.type === 'file' && event.target.files.length) {
    sendFile(event.target.files[0], event.target.dataset.mode);
  }
  if (event.target.matches('[data-panel-act="desk"]')) tell(event.target);
});

dialog.addEventListener('input', (event) => {
  const rule = event.target.closest('.rule');
  if (!rule) return;
  dirty = true;
  said.textContent = '';
  if (event.target.tagName !== 'SELECT') return;
  rule.querySelector('input').disabled = ['usual', 'off'].includes(event.target.value);
});

// The page's own keys rest while a dialog is open; Escape closes it without our help.
dialog.addEventListener('keydown', (event) => {
  event.stopPropagation();
  const field = event.target.closest('.field');
  if (event.key === 'Enter' && !event.isComposing && field && field.tagName === 'INPUT') {
    sheet.querySelector(`[data-fields~="${field.id}"]`).click();
  }
});

dialog.addEventListener('close', () => {
  const opener = document.querySelector(`#app [data-panel="${wanted}"]`);
  wanted = '';
  dirty = false;
  // The browser gives the focus back, unless what had it was painted anew meanwhile.
  const active = document.activeElement;
  if (opener && (!active || active === document.body || dialog.contains(active))) opener.focus();
  // What stands behind it may be told anew (the first screen names the model): the page reads
  // itself again as it does when its tab comes back into view.
  if (next) open(next);
  else document.dispatchEvent(new Event('visibilitychange'));
  next = '';
});

export function serveDialogs(given) {
  part = given;
  part.watch('value', paint);
}

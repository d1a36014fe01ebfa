/* Writing: drafts and sending. What was not stored by the server stays in the box. */

import { whole } from './files.js';
import { warn } from './nodes.js';
import { byId, fire, going, leaving, others, state, words } from './state.js';
import { endEdit } from './turns.js';

const MAX_BYTES = 900000; // what one request may carry, with room for JSON's escapes
const MEASURED = 20000; // longer texts are not measured at each key: layout would take seconds
const bytes = (text) => new TextEncoder().encode(JSON.stringify(text)).length;
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');

/* What is not sent yet is kept by the server, with its conversation. */
export function keepDraft() {
  const text = whole(byId('composer'));
  if (text === (state.draft ?? '') || bytes(text) > MAX_BYTES) return;
  if (!leaving()) state.draft = text;
  fire('draft', { key: going() || null, text });
}

/* Another conversation is on its way: what is written from now on is for that one. */
export function emptyBox(text = '') {
  byId('ask').value = text;
  byId('files').replaceChildren();
  state.draft = null;
}

export function restoreDraft({ draft, files }) {
  const ask = byId('ask');
  if (state.sending && state.sent.key === state.key) return;
  if (state.draft === null && ask.value) return; // typed before it was there
  ask.value = draft;
  byId('files').innerHTML = files;
  state.draft = whole(byId('composer'));
  fitHeight();
}

export function fitHeight() {
  const ask = byId('ask');
  ask.style.height = 'auto';
  if (ask.value.length > MEASURED) ask.style.height = '40vh';
  else ask.style.height = `${Math.min(ask.scrollHeight, innerHeight * 0.4)}px`;
}

/* Send what stands in a form: the box, or a message that is edited. */
export function send(from, parent) {
  const text = whole(from);
  if (!text.trim() || state.sending) return;
  if (state.live) { warn(words.busy); return; }
  if (from.querySelector('.busy')) { warn(words.reading); return; }
  if (text.length > MAX_BYTES || bytes(text) > MAX_BYTES) {
    warn(words.too_big.replace('{limit}', MAX_BYTES.toLocaleString()));
    return;
  }
  const { sent } = state;
  // The same text again, after no answer came: the server must know it for the same sending.
  const again = sent.text === text && sent.parent === parent && sent.key === state.key;
  const clientKey = again ? sent.clientKey : newKey();
  state.sent = { clientKey, text, parent, from, key: state.key, own: byId('ask').value };
  state.sending = true;
  state.stuck = true;
  document.body.classList.add('sending');
  offer({ key: state.key || null, parent, text, client_key: clientKey }, 3);
}

/* Between two of Gradio's streams an event can get lost; the server knows a repeated one by its key. */
function offer(data, left) {
  fire('send', data);
  state.sent.timer = setTimeout(() => (left ? offer(data, left - 1) : unanswered()), 5000);
}

/* The server has stored the message: now the box may be emptied. */
export function accepted() {
  const { from, key, own } = state.sent;
  refused();
  others.postMessage('accepted');
  state.sent = {};
  if (from.id === 'composer') {
    fire('draft', { key: key || null, text: '' });
    if (going() !== key) return; // the box is another conversation's now
    const { value } = byId('ask');
    if (value.startsWith(own)) emptyBox(value.slice(own.length)); // what was typed on is the next one
    state.draft = '';
    fitHeight();
  } else if (from.closest('.turn')) {
    endEdit(from.closest('.turn'));
  }
}

/* Not stored: the text stays where it is. */
export function refused() {
  clearTimeout(state.sent.timer);
  state.sending = false;
  document.body.classList.remove('sending');
}

function unanswered() {
  refused();
  warn(words.offline);
}

/* What this page shows, and how it speaks to the server: every event goes through the bridge. */

import { warn } from './nodes.js';

export const { language, theme } = window.corralLook;

export const WINDOW = 40; // messages shown at first, and how many "Earlier messages" adds
export const byId = (id) => document.getElementById(id);
export const others = new BroadcastChannel('corral'); // the tabs beside this one
export const words = {}; // the sentences of this script, filled in when the page is there
export const state = {
  key: '', leaf: null, last: WINDOW, mode: '', first: 0, tag: '', live: 0, sending: false, sent: {}, stuck: true,
  trigger: null, number: 0, said: 0, nextSaying: 0, listed: 0, pulsing: 0,
  draft: null, // what the server keeps of the box
  temporary: false, aside: new Set(), // the conversation in view is not stored; the keys of this tab's
};

/* `work`, once nobody has asked for it for some milliseconds. */
export function later(work, milliseconds) {
  let waiting;
  return () => { clearTimeout(waiting); waiting = setTimeout(work, milliseconds); };
}

/* Gradio closes its stream when nothing is awaited. What is asked just then is answered on the next
   one, which the next event opens: so each event has another one behind it. */
export const nudge = later(() => fire('pulse'), 2000);
export const refresh = later(() => fire('listing'), 250);

export function fire(name, data = {}) {
  if (!state.trigger) return;
  if (name !== 'pulse') nudge();
  const query = byId('find') ? byId('find').value.trim() : '';
  state.number += 1; // requests overtake each other on their way: the server goes by this
  const { number, mode, last, first, tag, temporary } = state;
  state.trigger(name, { number, query, mode, last, first, tag, temporary, aside: [...state.aside].join(' '), language: language(), ...data });
}

/* Between two of Gradio's streams an event can get lost: one that nothing answers is sent again. */
let watching = 0;
let asked = null; // the conversation that is asked for and not answered yet
export function insist(name, data, failed, left = 3) {
  clearTimeout(watching);
  asked = data.key || '';
  fire(name, data);
  watching = setTimeout(() => (left ? insist(name, data, failed, left - 1) : unanswered(failed)), 5000);
}

function unanswered(failed) {
  asked = null;
  next = null;
  failed?.();
  warn(words.offline);
}

/* Do something where the page is going: now, or when the conversation that was asked for is there. */
let next = null;
export function whenThere(go = next) {
  next = leaving() ? go : null;
  if (!next && go) go();
}

/* An answer came to what was asked of a conversation: true if no other was asked for since. */
export function answered(key) {
  if (asked !== null && key !== asked) return false;
  clearTimeout(watching);
  asked = null;
  return true;
}

/* Another conversation than the one in view may have been asked for: that one goes first. */
export const going = () => asked ?? state.key;
export const leaving = () => going() !== state.key;

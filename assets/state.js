/* What this page shows, and how it speaks to the server: every event goes through the bridge. */

export const { language, theme } = window.corralLook;

export const WINDOW = 40; // messages shown at first, and how many "Earlier messages" adds
export const byId = (id) => document.getElementById(id);
export const words = {}; // the sentences of this script, filled in when the page is there
export const state = {
  key: '', leaf: null, last: WINDOW, mode: '', first: 0, tag: '', live: 0, sending: false, sent: {}, stuck: true,
  trigger: null, number: 0, said: 0, nextSaying: 0, listed: 0, pulsing: 0,
  draft: null, // what the server keeps of the box
  temporary: false, aside: new Set(), // the conversation in view is not stored; the keys of this tab's
};

/* Gradio closes its stream when nothing is awaited. What is asked just then is answered on the next
   one, which the next event opens: so each event has another one behind it. */
let nudging = 0;
export function nudge() {
  clearTimeout(nudging);
  nudging = setTimeout(() => fire('pulse'), 2000);
}

export function fire(name, data = {}) {
  if (!state.trigger) return;
  if (name !== 'pulse') nudge();
  const query = byId('find') ? byId('find').value.trim() : '';
  state.number += 1; // requests overtake each other on their way: the server goes by this
  const { number, mode, last, first, tag, temporary } = state;
  state.trigger(name, { number, query, mode, last, first, tag, temporary, aside: [...state.aside].join(' '), language: language(), ...data });
}

let refreshing = 0;
export function refresh() {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => fire('listing'), 250);
}

/* Between two of Gradio's streams an event can get lost: one that nothing answers is sent again. */
let watching = 0;
let asked = null; // the conversation that is asked for and not answered yet
export function insist(name, data, left = 3) {
  clearTimeout(watching);
  asked = data.key || '';
  fire(name, data);
  watching = setTimeout(() => { if (left) insist(name, data, left - 1); else { asked = null; next = null; } }, 5000);
}

/* Do something where the page is going: now, or when the conversation that was asked for is there. */
let next = null;
export function whenThere(go = next) {
  next = leaving() ? go : null;
  if (!next && go) go();
}

/* An answer came; one on another conversation is a late one. */
export function answered(key) {
  if (key === asked) rest();
}

/* Nothing is waited for any more, as after a prompt was taken: the page is where it was sent. */
export function rest() {
  clearTimeout(watching);
  asked = null;
}

/* Another conversation than the one in view may have been asked for: that one goes first. */
export const going = () => asked ?? state.key;
export const leaving = () => going() !== state.key;

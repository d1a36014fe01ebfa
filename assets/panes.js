/* How each pane of the page is painted from the data that the server sends for it. */

import { returned } from './files.js';
import { found, mark, typed } from './find.js';
import { markOpen, open } from './list.js';
import { grow, say } from './live.js';
import { built, patch, toast } from './nodes.js';
import { follow, reveal } from './scroll.js';
import { answered, byId, fire, going, insist, leaving, refresh, state, whenThere, WINDOW } from './state.js';
import { accepted, refused, restoreDraft } from './write.js';

export const paint = {
  listing(root, value) {
    if (value.gone && value.gone === going()) open(null);
    if (value.read_at < state.listed) return; // read before what is shown
    state.listed = value.read_at;
    const typed = byId('find').value.trim();
    if ((value.query || '').trim() !== typed || (value.mode || '') !== state.mode || value.tag !== state.tag) {
      refresh(); // an answer to what was asked for before
      return;
    }
    patch(root, value.items);
    markOpen();
  },

  head(root, value) {
    if (value.of !== undefined && value.of !== going()) return; // told beside a dialog, late
    patch(root, value.items);
    entitle();
  },

  window(root, value) {
    const taken = value.accepted && value.accepted === state.sent.clientKey;
    if (taken) accepted();
    if (!answered(value.asked)) return undefined; // late
    const scroll = byId('scroll');
    const moved = value.key !== state.key;
    const fromEnd = scroll.scrollHeight - scroll.scrollTop;
    const grew = !moved && value.last > state.last;
    patch(root, value.items);
    Object.assign(state, { key: value.key, leaf: value.leaf, last: value.last || WINDOW });
    if (value.key) { // of a conversation that has not begun, this page alone says whether it is kept
      state.temporary = value.temporary;
      state.aside[value.temporary ? 'add' : 'delete'](value.key);
    }
    address(moved && !taken);
    if (moved) state.stuck = true;
    if (moved || state.draft === null) { restoreDraft(value); returned(); }
    whenThere();
    if (value.focus) return reveal(value.focus);
    if (!byId('seek').hidden) {
      if (moved) typed();
      return mark(grew);
    }
    if (grew) scroll.scrollTop = scroll.scrollHeight - fromEnd;
    follow();
    return undefined;
  },

  live(root, value) {
    if (value.key && (value.key !== state.key || leaving())) return; // late: of what is not in view
    answered(value.key);
    if (value.ended) { // the window takes over, in one piece
      if (value.reply === state.live) insist('view', { key: state.key || null });
      return;
    }
    if (value.reply) {
      const first = value.reply !== state.live;
      grow(root, value);
      if (first) insist('follow', { key: value.key, id: value.reply });
    } else {
      const ended = state.live;
      // The whole reply stands in the window, which is painted in the same round.
      if (ended) setTimeout(() => say(document.querySelector(`#m-${ended} > .md`), true), 50);
      root.replaceChildren();
      state.live = 0;
    }
    document.body.classList.toggle('answering', Boolean(value.reply));
    follow();
  },

  found: (root, value) => found(value),

  foot(root, value) {
    patch(root, value.items);
    // Gradio paints no answer that equals the last one, so one question each would end the chain.
    clearInterval(state.pulsing);
    if (root.querySelector('[data-poll]')) state.pulsing = setInterval(() => fire('pulse'), 1000);
  },

  note(root, value) {
    if (value.accepted && value.accepted === state.sent.clientKey) accepted();
    for (const [id, html] of value.items) {
      if (root.querySelector(`[data-note="${id}"]`)) continue;
      toast(built(html), id);
    }
    if (value.failed && value.failed === state.sent.clientKey) refused();
  },
};

/* Where a page moves by itself, as when a conversation begins, "back" does not lead between. */
function address(moved) {
  const url = new URL(location.href);
  const { key, temporary } = state;
  if (key && !temporary) url.searchParams.set('c', key);
  else url.searchParams.delete('c');
  document.body.dataset.temporary = temporary;
  if (url.href !== location.href) history[moved ? 'pushState' : 'replaceState'](null, '', url);
  entitle();
  markOpen();
}

/* Head and window arrive in one round, the head first. */
function entitle() {
  const title = document.querySelector('#head h1')?.textContent;
  document.title = state.key && title ? `${title} · Corral` : 'Corral';
}

/* Find in this conversation. The server counts the hits in all messages; those in view are marked
   here, without touching the document, and further ones are asked for. */

import { reveal } from './scroll.js';
import { byId, fire, state, words } from './state.js';

let hits = []; // [message id, how many, messages from there to the end]
let at = 0; // of all hits, the one that is shown

const total = () => hits.reduce((sum, hit) => sum + hit[1], 0);

export function openSeek() {
  byId('seek').hidden = false;
  byId('seek-text').select();
  typed();
}

export function closeSeek() {
  byId('seek').hidden = true;
  hits = [];
  mark();
  byId('ask').focus();
}

export function typed() {
  fire('seek', { key: state.key || null, query: byId('seek-text').value });
}

export function found(value) {
  if (byId('seek').hidden || value.query !== byId('seek-text').value) return;
  hits = value.hits;
  at = 0;
  step(0);
}

export function step(by) {
  const all = total();
  at = all ? (at + by + all) % all : 0;
  const told = all ? words.seek_count.replace('{at}', at + 1).replace('{all}', all) : words.seek_none;
  byId('seek-count').textContent = byId('seek-text').value ? told : '';
  const { id, fromEnd } = current();
  if (id && !byId(`m-${id}`)) fire('view', { key: state.key, last: fromEnd + 1 }); // it marks when it is there
  else mark(true);
}

function current() {
  let before = 0;
  for (const [id, count, fromEnd] of hits) {
    if (at < before + count) return { id, nth: at - before, fromEnd };
    before += count;
  }
  return {};
}

/* Colour what is in view; `show` scrolls to the current hit. */
export function mark(show) {
  if (!window.CSS || !CSS.highlights) return;
  CSS.highlights.clear();
  const { id, nth } = current();
  if (!id) return;
  const pattern = new RegExp(byId('seek-text').value.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&'), 'gi');
  const marked = hits.map((hit) => [hit[0], ranges(byId(`m-${hit[0]}`), pattern)]);
  CSS.highlights.set('hit', new Highlight(...marked.flatMap(([, all]) => all)));
  const own = marked.find((one) => one[0] === id)[1];
  const now = own[Math.min(nth, own.length - 1)];
  if (now) CSS.highlights.set('hit-now', new Highlight(now));
  if (!show) return;
  const place = now ? now.startContainer.parentElement : null;
  if (!place) { reveal(id); return; }
  place.closest('details')?.setAttribute('open', '');
  state.stuck = false;
  place.scrollIntoView({ block: 'center' });
}

/* The places in a message, over the borders of its elements. */
function ranges(turn, pattern) {
  const nodes = [];
  let text = '';
  for (const part of turn ? turn.querySelectorAll(':scope > .bubble, :scope > .files pre, .md') : []) {
    const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.parentElement.closest('figcaption, math')) continue;
      nodes.push([text.length, node]);
      text += node.data;
    }
  }
  const place = (offset) => nodes[nodes.findLastIndex(([begin]) => begin <= offset)];
  return Array.from(text.matchAll(pattern), (match) => {
    const range = new Range();
    const [begin, first] = place(match.index);
    const [until, last] = place(match.index + match[0].length - 1);
    range.setStart(first, match.index - begin);
    range.setEnd(last, match.index + match[0].length - until);
    return range;
  });
}

/* The growing answer, on the page and for screen readers. */

import { built, dress, utter } from './nodes.js';
import { byId, insist, state } from './state.js';

const MD = '<div class="md"><div class="tail"></div></div>';
let lost = false; // updates were missed, and the whole is asked for

/* The growing answer: finished blocks are appended once, only the open one is replaced. */
export function grow(root, value) {
  if (state.live !== value.reply) {
    root.replaceChildren(built(`<article class="turn reply">${MD}<p class="doing"></p></article>`));
    state.live = value.reply;
    state.said = 0;
  }
  const md = root.querySelector('.turn > .md');
  const filled = (!value.thought || think(md, value.thought)) && fill(md, value);
  if (!filled && !lost) insist('follow', { key: value.key, id: value.reply });
  lost = !filled;
  md.classList.toggle('writing', value.writing && Boolean(md.textContent));
  root.querySelector('.doing').textContent = value.line;
  say(md, false);
}

function think(md, thought) {
  if (!md.previousElementSibling) md.before(built(`<details class="thinking"><summary></summary>${MD}</details>`));
  const [label, body] = md.previousElementSibling.children;
  label.textContent = thought.label;
  return fill(body, thought);
}

function fill(md, value) {
  const tail = md.querySelector(':scope > .tail');
  const shown = md.corralBlocks || (md.corralBlocks = []);
  const { first, blocks } = value;
  const known = shown.slice(first);
  if (shown.length < first || known.length > blocks.length || known.some((html, n) => html !== blocks[n])) {
    if (first) return false; // what lies between was missed
    md.replaceChildren(tail);
    shown.length = 0;
  }
  for (const html of blocks.slice(shown.length - first)) {
    const holder = document.createElement('div');
    holder.innerHTML = html;
    dress(holder);
    tail.before(...holder.childNodes);
    shown.push(html);
  }
  tail.innerHTML = value.tail;
  dress(tail);
  return true;
}

/* Screen readers hear whole sentences, once: `md` holds the reply so far, or all of it. */
export function say(md, ended) {
  if (!md || (!ended && Date.now() < state.nextSaying)) return;
  state.nextSaying = Date.now() + 1000;
  const spoken = md.cloneNode(true);
  for (const caption of spoken.querySelectorAll('figcaption')) caption.remove();
  const text = spoken.textContent.replace(/\s+/g, ' ').trim();
  const end = ended ? text.length : text.search(/[.!?。!?][^.!?。!?]*$/) + 1;
  if (end <= state.said) return;
  utter(text.slice(state.said, end));
  state.said = end;
}

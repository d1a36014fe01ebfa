/* The growing answer, on the page and for screen readers. */

import { built, dress } from './nodes.js';
import { byId, state } from './state.js';

/* The growing answer: finished blocks are appended once, only the open one is replaced. */
export function grow(root, value) {
  if (state.live !== value.reply) {
    root.replaceChildren(built('<article class="turn reply"><details class="thinking" hidden><summary></summary>'
      + '<div class="md"><div class="tail"></div></div></details><div class="md"><div class="tail"></div></div><p class="doing"></p></article>'));
    state.live = value.reply;
    state.said = 0;
  }
  const [thought, md] = root.querySelectorAll('.md');
  thought.parentElement.hidden = !value.thought;
  if (value.thought) {
    fill(thought, value.thought);
    root.querySelector('summary').textContent = value.thought.label;
  }
  fill(md, value);
  md.classList.toggle('writing', value.writing && Boolean(md.textContent));
  root.querySelector('.doing').textContent = value.line;
  say(md, false);
}

function fill(md, value) {
  const tail = md.querySelector(':scope > .tail');
  const shown = md.corralBlocks || (md.corralBlocks = []);
  if (value.blocks.length < shown.length || shown.some((html, n) => html !== value.blocks[n])) {
    md.replaceChildren(tail);
    shown.length = 0;
  }
  for (const html of value.blocks.slice(shown.length)) {
    const holder = document.createElement('div');
    holder.innerHTML = html;
    dress(holder);
    tail.before(...holder.childNodes);
    shown.push(html);
  }
  tail.innerHTML = value.tail;
  dress(tail);
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
  const line = document.createElement('p');
  line.textContent = text.slice(state.said, end);
  const said = byId('said');
  said.append(line);
  while (said.childElementCount > 20) said.firstChild.remove();
  state.said = end;
}

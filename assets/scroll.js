/* Scrolling: the view never moves while somebody reads above the end. */

import { byId, state } from './state.js';

export function atEnd() {
  const scroll = byId('scroll');
  return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 48;
}

export function follow() {
  const scroll = byId('scroll');
  if (state.stuck) scroll.scrollTop = state.key ? scroll.scrollHeight : 0; // the first screen from above
  jumpButton();
}

export function jumpButton() {
  document.querySelector('.jump')?.toggleAttribute('hidden', state.stuck || atEnd());
}

export function reveal(id) {
  const turn = byId(`m-${id}`);
  if (!turn) return;
  state.stuck = false;
  turn.scrollIntoView({ block: 'center' });
  turn.classList.add('found');
  setTimeout(() => turn.classList.remove('found'), 2500);
  jumpButton();
}

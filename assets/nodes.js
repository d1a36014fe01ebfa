/* HTML from the server as nodes: only the items that changed are touched. */

import { byId, words } from './state.js';

export function built(html) {
  const template = document.createElement('template');
  template.innerHTML = html;
  return template.content.firstElementChild;
}

/* Make the children of `root` the given [id, html] items; nodes whose HTML is the same stay. */
export function patch(root, items) {
  const before = root.corralItems || new Map();
  const after = new Map();
  const held = document.activeElement;
  let cursor = root.firstChild;
  for (const [id, html] of items) {
    const known = before.get(id);
    const node = known && known.html === html ? known.node : dress(built(html));
    if (known && known.node !== node) {
      if (cursor === known.node) cursor = node;
      known.node.replaceWith(node);
    }
    if (node !== cursor) root.insertBefore(node, cursor);
    else cursor = cursor.nextSibling;
    after.set(id, { html, node });
  }
  const row = [...before.values()].findIndex(({ node }) => node.contains(held));
  for (const [id, { node }] of before) if (!after.has(id)) node.remove();
  root.corralItems = after;
  if (row >= 0 && !held.isConnected) refocus(after.get([...before.keys()][row])?.node || root.children[row], held);
}

/* A control that had the focus was painted anew: the keyboard goes on at the same one. Where it is gone,
   the box takes it, but not on a phone, which would cover the page with its keyboard. */
function refocus(node, { dataset, ariaLabel }) {
  const box = matchMedia('(hover: none)').matches ? document.body : byId('ask');
  const controls = Array.from(node?.querySelectorAll('[data-act]:not(:disabled)') || [box]);
  const same = controls.filter((control) => control.dataset.act === dataset.act);
  controls[0]?.focus(); // some show only with the focus beside them
  (same.find((control) => control.ariaLabel === ariaLabel) || same[0])?.focus();
}

/* What the sanitizer would not let through comes here: buttons on code. */
export function dress(node) {
  const figures = node.matches('figure.code') ? [node] : node.querySelectorAll('figure.code');
  for (const figure of figures) {
    if (figure.querySelector('figcaption')) continue;
    const caption = document.createElement('figcaption');
    const label = document.createElement('span');
    label.textContent = figure.dataset.lang || words.text;
    caption.append(label, button('wrap', words.wrap), button('copy-code', words.copy));
    figure.prepend(caption);
    figure.querySelector('pre').tabIndex = 0;
  }
  return node;
}

export function button(act, label) {
  const made = document.createElement('button');
  Object.assign(made, { type: 'button', textContent: label });
  made.dataset.act = act;
  return made;
}

export function toast(node, id) {
  node.dataset.note = id;
  byId('note').append(node);
  setTimeout(() => node.remove(), node.classList.contains('error') ? 30000 : 10000);
}

/* A short message of the page's own. */
export function tell(text, tone, ...controls) {
  const node = built(`<div class="toast ${tone}" role="${tone ? 'alert' : 'status'}"><div></div></div>`);
  node.firstChild.textContent = text;
  node.append(...controls);
  toast(node, `own-${Date.now()}`);
}

/* For screen readers alone. */
export function utter(text) {
  const said = byId('said');
  said.append(built('<p></p>'));
  said.lastChild.textContent = text;
  while (said.childElementCount > 20) said.firstChild.remove();
}

export const warn = (text) => tell(text, 'error');

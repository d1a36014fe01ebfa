/* The page begins here: what each control does, keys, and the parts that Gradio mounts. The server
   renders, the scripts paint: each pane's value is data. Clicks on [data-act] go to the server. */

import { detach, listenForFiles, uploading, whole } from './files.js';
import { closeSeek, openSeek, step, typed } from './find.js';
import { drawer, open, rename, scrolled, shelf } from './list.js';
import { serveMeter } from './meter.js';
import { serveDialogs } from './panels.js';
import { paint } from './panes.js';
import { follow, jumpButton, atEnd } from './scroll.js';
import { byId, fire, going, insist, language, later, others, state, theme, whenThere, WINDOW, words } from './state.js';
import { copy, edit, endEdit, moveInMenu, placeMenu, resend } from './turns.js';
import { fitHeight, keepDraft, send } from './write.js';

function answer(event, { dataset }, on) {
  state.stuck = true;
  fire(event, { key: state.key, id: Number(dataset.id), on });
}

const act = {
  new: () => { open(null); byId('ask').focus(); },
  temporary: () => { open(null, null, !state.temporary); byId('ask').focus(); },
  open: (el) => open(el.dataset.key, el.dataset.id ? Number(el.dataset.id) : null),
  drawer: () => drawer(),
  theme: () => theme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark'),
  idea: (el) => { byId('ask').value = el.textContent; fitHeight(); byId('ask').focus(); },
  send: () => whenThere(() => send(byId('composer'), state.leaf)),
  attach: () => byId('pick').click(),
  detach,
  stop: () => fire('stop', { key: state.key }),
  again: (el) => answer('again', el),
  continue: (el) => answer('resume', el),
  anyway: (el) => answer('anyway', el, Boolean(document.querySelector(`#m-${el.dataset.id}.prompt`))),
  appeal: (el) => { el.disabled = true; fire('appeal', { key: state.key, id: Number(el.dataset.id) }); },
  version: (el) => fire('version', { key: state.key, id: Number(el.dataset.id) }),
  edit: (el) => edit(el.closest('.turn')),
  'edit-prompt': (el) => { const turn = byId(`m-${el.dataset.id}`); if (turn) edit(turn); },
  'cancel-edit': (el) => endEdit(el.closest('.turn')),
  resend: (el) => resend(el.closest('.turn')),
  copy: (el) => copy(el.closest('.turn').dataset.raw ?? whole(el.closest('.turn')), el),
  'copy-code': (el) => copy(el.closest('figure').querySelector('code').textContent, el),
  wrap: (el) => {
    const on = el.closest('figure').classList.toggle('wrapped');
    el.textContent = on ? words.unwrap : words.wrap;
  },
  unfold: (el) => { el.closest('.turn').querySelector('.bubble').classList.remove('folded'); el.hidden = true; },
  shield: (el) => {
    const panel = byId(el.getAttribute('aria-controls'));
    panel.hidden = !panel.hidden;
    el.setAttribute('aria-expanded', String(!panel.hidden));
  },
  earlier: () => fire('view', { key: state.key, last: state.last + WINDOW }),
  jump: () => { state.stuck = true; follow(); },
  pin: (el) => fire('pin', { key: el.dataset.key, on: el.dataset.on === '1' }),
  rename: (el) => rename(el.dataset.key, el.closest('.conv')?.querySelector('.name') || document.querySelector('#head h1')),
  trash: (el) => fire('trash', { key: el.dataset.key }),
  restore: (el) => { fire('restore', { key: el.dataset.key }); el.closest('.toast')?.remove(); },
  dismiss: (el) => el.closest('.toast').remove(),
  shelf: (el) => shelf(state.mode === el.dataset.mode ? '' : el.dataset.mode, state.tag),
  'seek-next': () => step(1),
  'seek-previous': () => step(-1),
  'seek-close': () => closeSeek(),
  'shelf-close': () => shelf('', ''),
  tag: (el) => shelf(state.mode, state.tag === el.dataset.tag ? '' : el.dataset.tag),
};

const pressLast = (selector) => { const all = document.querySelectorAll(selector); if (all.length) all[all.length - 1].click(); };
const shortcuts = { // as app/page/keys.py tells them
  k: () => act.new(),
  f: () => openSeek(),
  'shift f': () => { drawer(innerWidth <= 760); byId('find').focus(); },
  'shift e': () => pressLast('#window [data-act="edit"]'),
  'shift u': () => pressLast('#window .reply [data-act="again"]'),
  z: () => pressLast('#note [data-act="restore"]'),
  '.': () => { if (state.live) act.stop(); },
  '/': () => pressLast('[data-panel="keys"]'),
};

// -- listening -----------------------------------------------------------------------------

function listen() {
  document.addEventListener('click', (event) => {
    const opener = event.target.closest('[popovertarget]');
    if (opener) placeMenu(opener);
    else if (event.target.closest('#turn-menu')) byId('turn-menu').hidePopover();
    const el = event.target.closest('[data-act]');
    if (!el || !act[el.dataset.act]) {
      if (document.body.classList.contains('drawer') && !event.target.closest('#side')) drawer(false);
      return;
    }
    if (el.tagName === 'A' && (event.ctrlKey || event.metaKey || event.shiftKey)) return; // a new tab
    event.preventDefault();
    act[el.dataset.act](el);
  });

  document.addEventListener('keydown', (event) => {
    if (event.isComposing || event.keyCode === 229) return; // Enter that only ends a composition
    const area = event.target;
    if (document.querySelector('#turn-menu:popover-open')) { moveInMenu(event); return; }
    if (area.id === 'seek-text' && event.key === 'Enter') step(event.shiftKey ? -1 : 1);
    else if (area.closest && area.closest('#seek') && event.key === 'Escape') closeSeek();
    else if (event.key === 'Enter' && !event.shiftKey && area.id === 'ask') {
      event.preventDefault();
      act.send();
    } else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && area.closest('form.edit')) {
      event.preventDefault();
      resend(area.closest('.turn'));
    } else if (event.key === 'Escape' && area.closest && area.closest('form.edit')) {
      endEdit(area.closest('.turn'));
    } else if (event.key === 'Escape') {
      drawer(false);
    } else if (event.ctrlKey || event.metaKey) {
      const go = shortcuts[(event.shiftKey ? 'shift ' : '') + event.key.toLowerCase()];
      if (!go || area.id === 'seek-text' || (event.key === 'z' && area.value)) return; // the browser's own
      event.preventDefault();
      go();
    }
  });

  const keep = later(keepDraft, 500);
  const typing = {
    find: later(() => fire('listing'), 150),
    'seek-text': later(typed, 150),
    ask: () => { fitHeight(); keep(); },
  };
  document.addEventListener('input', ({ target }) => typing[target.id]?.());

  document.addEventListener('change', (event) => {
    if (event.target.id !== 'language') return;
    try { localStorage.setItem('corral-language', event.target.value); } catch { return; }
    location.reload();
  });

  const browse = later(scrolled, 60);
  document.addEventListener('scroll', (event) => {
    if (event.target.id === 'listing') browse();
    if (event.target.id !== 'scroll') return;
    state.stuck = atEnd();
    jumpButton();
  }, true);

  document.addEventListener('submit', (event) => event.preventDefault());
  // Gradio would abort its stream here and report that as an error; the browser just closes it.
  addEventListener('beforeunload', (event) => {
    event.stopImmediatePropagation();
    if (uploading()) event.preventDefault();
  }, true);
  addEventListener('pagehide', () => {
    if (byId('ask')) keepDraft();
    const body = [...state.aside].join(' ');
    if (body) fetch('/corral/forget', { method: 'POST', keepalive: true, body });
  });
  setInterval(() => { if (state.aside.size) fire('listing'); }, 240000); // still here
  addEventListener('resize', () => follow());
  addEventListener('popstate', () => { byId('dialog')?.close(); open(inAddress()); });
  // What another tab did in the meantime, or does just now.
  others.onmessage = () => document.dispatchEvent(new Event('visibilitychange'));
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState !== 'visible' || state.live || state.sending || !state.trigger) return;
    fire('view', { key: going() || null });
  });
}

const inAddress = () => new URLSearchParams(location.search).get('c') || '';

// -- beginning -----------------------------------------------------------------------------

const panes = {};
let bridge = null;

function begin(part) {
  if (part.serves) return { panels: serveDialogs, meter: serveMeter }[part.serves](part);
  if (part.trigger) { bridge = part; return ready(); }
  if (part.fixed) {
    const given = document.querySelector(`template[data-fixed="${part.fixed}"][lang="${language()}"]`);
    part.element.replaceChildren(given.content.cloneNode(true));
    return ready();
  }
  const draw = () => {
    const { value } = part.props;
    if (value && typeof value === 'object') paint[part.pane](part.element, value);
  };
  panes[part.pane] = part.element;
  part.watch('value', draw);
  return ready();
}

/* Gradio mounts the parts in any order: begin when the last one is on the page. */
function ready() {
  if (state.trigger || !bridge) return;
  if (!Object.keys(paint).every((name) => panes[name]) || !byId('words') || !byId('find')) {
    requestAnimationFrame(ready);
    return;
  }
  Object.assign(words, JSON.parse(byId('words').dataset.words));
  document.documentElement.lang = language();
  byId('side').setAttribute('role', 'navigation');
  theme();
  if (navigator.platform.startsWith('Mac')) document.querySelector('.new kbd').textContent = '⌘ K';
  state.key = inAddress();
  connect(bridge);
  listenForFiles();
  byId('ask').focus();
}

/* Gradio's stream begins: the page asks for what it shows. */
function connect({ trigger }) {
  state.trigger = trigger;
  insist('view', { key: state.key || null });
}

listen();
const waiting = window.corral || [];
window.corral = { push: begin };
waiting.forEach(begin);

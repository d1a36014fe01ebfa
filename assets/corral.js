/* The page's one script. The server renders, this paints: each pane's value is data, and only the
   items that changed are touched. Clicks on [data-act] go to the server by the bridge. */
(() => {
  'use strict';

  const WINDOW = 40;
  const MAX_BYTES = 900000; // what one request may carry, with room for JSON's escapes
  const MAX_DRAFT = 200000; // characters kept in the browser's session storage
  const HUGE_PASTE = 10000; // characters from which an attachment is offered
  const MEASURED = 20000; // longer texts are not measured at each key: layout would take seconds

  const byId = (id) => document.getElementById(id);
  const state = {
    key: '', leaf: null, last: WINDOW, mode: '', first: 0, tag: '', live: 0, sending: false, sent: {}, stuck: true,
    trigger: null, said: 0, nextSaying: 0, listed: 0, pulsing: 0,
  };
  let words = {};

  // -- talking to the server ---------------------------------------------------------------

  function fire(name, data = {}) {
    if (!state.trigger) return;
    const query = byId('find') ? byId('find').value.trim() : '';
    state.trigger(name, { query, mode: state.mode, last: state.last, first: state.first, tag: state.tag, language: language(), ...data });
  }

  let refreshing = 0;
  function refresh() {
    clearTimeout(refreshing);
    refreshing = setTimeout(() => fire('listing'), 250);
  }

  /* Between two of Gradio's streams an event can get lost: one that nothing answers is sent again. */
  let watching = 0;
  function insist(name, data, left = 3) {
    clearTimeout(watching);
    fire(name, data);
    if (left) watching = setTimeout(() => insist(name, data, left - 1), 5000);
  }

  function connect({ trigger }) {
    state.trigger = trigger;
    insist('view', { key: state.key || null });
  }

  // -- painting ------------------------------------------------------------------------------

  function built(html) {
    const template = document.createElement('template');
    template.innerHTML = html;
    return template.content.firstElementChild;
  }

  /* Make the children of `root` the given [id, html] items; nodes whose HTML is the same stay. */
  function patch(root, items) {
    const before = root.corralItems || new Map();
    const after = new Map();
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
    for (const [id, { node }] of before) if (!after.has(id)) node.remove();
    root.corralItems = after;
  }

  /* What the sanitizer would not let through comes here: buttons on code. */
  function dress(node) {
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

  function button(act, label) {
    const made = document.createElement('button');
    made.type = 'button';
    made.dataset.act = act;
    made.textContent = label;
    return made;
  }

  const paint = {
    listing(root, value) {
      if (value.gone && value.gone === state.key) open(null);
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
      patch(root, value.items);
      document.title = state.key ? `${value.title} · Corral` : 'Corral';
    },

    window(root, value) {
      clearTimeout(watching);
      const scroll = byId('scroll');
      const moved = value.key !== state.key;
      const fromEnd = scroll.scrollHeight - scroll.scrollTop;
      const grew = !moved && value.last > state.last;
      if (value.accepted && value.accepted === state.sent.clientKey) accepted();
      patch(root, value.items);
      Object.assign(state, { key: value.key, leaf: value.leaf, last: value.last || WINDOW });
      address();
      if (moved) { state.stuck = true; restoreDraft(); }
      if (value.focus) return reveal(value.focus);
      if (grew) scroll.scrollTop = scroll.scrollHeight - fromEnd;
      follow();
      return undefined;
    },

    live(root, value) {
      clearTimeout(watching);
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
        if (ended) setTimeout(() => say(document.querySelector(`#m-${ended} .md`), true), 50);
        root.replaceChildren();
        state.live = 0;
      }
      running(Boolean(value.reply));
      follow();
    },

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

  /* The growing answer: finished blocks are appended once, only the open one is replaced. */
  function grow(root, value) {
    if (state.live !== value.reply) {
      root.replaceChildren(built(
        '<article class="turn reply"><div class="md"><div class="tail"></div></div><p class="doing"></p></article>'));
      state.live = value.reply;
      state.said = 0;
      root.corralBlocks = [];
    }
    const md = root.querySelector('.md');
    const tail = root.querySelector('.tail');
    const shown = root.corralBlocks;
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
    md.classList.toggle('writing', value.writing && Boolean(value.tail || shown.length));
    root.querySelector('.doing').textContent = value.line;
    say(md, false);
  }

  /* Screen readers hear whole sentences, once: `md` holds the reply so far, or all of it. */
  function say(md, ended) {
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

  function markOpen() {
    for (const row of document.querySelectorAll('#listing .conv')) {
      const open = row.dataset.key === state.key;
      row.classList.toggle('on', open);
      const link = row.querySelector('a');
      if (!link) continue;
      if (open) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
  }

  function address() {
    const url = new URL(location.href);
    if (state.key) url.searchParams.set('c', state.key);
    else url.searchParams.delete('c');
    if (url.href !== location.href) history.replaceState(null, '', url);
    markOpen();
  }

  function running(on) {
    const ask = byId('ask');
    byId('send').hidden = on;
    byId('stop').hidden = !on;
    if (ask) ask.toggleAttribute('data-busy', on);
    document.body.classList.toggle('answering', on);
  }

  // -- scrolling: the view never moves while somebody reads above the end --------------------

  function atEnd() {
    const scroll = byId('scroll');
    return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 48;
  }

  function follow() {
    const scroll = byId('scroll');
    if (state.stuck) scroll.scrollTop = scroll.scrollHeight;
    jumpButton();
  }

  function jumpButton() {
    const jump = document.querySelector('.jump');
    if (jump) jump.hidden = state.stuck || atEnd();
  }

  function reveal(id) {
    const turn = byId(`m-${id}`);
    if (!turn) return;
    state.stuck = false;
    turn.scrollIntoView({ block: 'center' });
    turn.classList.add('found');
    setTimeout(() => turn.classList.remove('found'), 2500);
    jumpButton();
  }

  // -- writing -------------------------------------------------------------------------------

  const draftName = (key) => `corral-draft:${key || 'new'}`;

  function keepDraft() {
    const text = byId('ask').value;
    try {
      if (text && text.length <= MAX_DRAFT) sessionStorage.setItem(draftName(state.key), text);
      else sessionStorage.removeItem(draftName(state.key));
    } catch { /* storage is full or switched off: the text is still in the box */ }
  }

  function restoreDraft() {
    const ask = byId('ask');
    if (!ask || state.sending) return;
    let text = '';
    try { text = sessionStorage.getItem(draftName(state.key)) || ''; } catch { /* as above */ }
    ask.value = text;
    fitHeight();
  }

  function fitHeight() {
    const ask = byId('ask');
    ask.style.height = 'auto';
    if (ask.value.length > MEASURED) ask.style.height = '40vh';
    else ask.style.height = `${Math.min(ask.scrollHeight, innerHeight * 0.4)}px`;
  }

  const bytes = (text) => new TextEncoder().encode(JSON.stringify(text)).length;

  function send(text, parent, from) {
    if (!text.trim() || state.sending) return;
    if (state.live) { warn(words.busy); return; }
    if (text.length > MAX_BYTES || bytes(text) > MAX_BYTES) {
      warn(words.too_big.replace('{limit}', MAX_BYTES.toLocaleString()));
      return;
    }
    const { sent } = state;
    // The same text again, after no answer came: the server must know it for the same sending.
    const again = sent.text === text && sent.parent === parent && sent.key === state.key;
    const clientKey = again ? sent.clientKey : newKey();
    state.sent = { clientKey, text, parent, from, key: state.key };
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

  const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');

  /* The server has stored the message: now the box may be emptied. */
  function accepted() {
    const { from, key, text } = state.sent;
    refused();
    state.sent = {};
    if (from === byId('ask')) {
      try { sessionStorage.removeItem(draftName(key)); } catch { /* nothing was kept */ }
      if (from.value === text) from.value = '';
      fitHeight();
    } else if (from.closest('.turn')) {
      endEdit(from.closest('.turn'));
    }
  }

  /* Not stored: the text stays where it is. */
  function refused() {
    clearTimeout(state.sent.timer);
    state.sending = false;
    document.body.classList.remove('sending');
  }

  function unanswered() {
    refused();
    warn(words.offline);
  }

  function toast(node, id) {
    node.dataset.note = id;
    byId('note').append(node);
    const seconds = node.classList.contains('error') ? 30 : 10;
    setTimeout(() => node.remove(), seconds * 1000);
  }

  /* A very long paste stays in the box; it can become an attachment instead. */
  function offerAttachment(text) {
    const node = built('<div class="toast" role="status"><div></div></div>');
    node.firstChild.textContent = words.pasted.replace('{count}', text.length.toLocaleString());
    const instead = button('dismiss', words.attach_paste);
    instead.className = 'btn';
    instead.addEventListener('click', () => {
      const ask = byId('ask');
      ask.value = ask.value.replace(text.replace(/\r\n?/g, '\n'), () => '').trim();
      document.dispatchEvent(new CustomEvent('corral-attach', { detail: new File([text], 'pasted.txt') }));
    });
    node.append(instead);
    toast(node, `paste-${Date.now()}`);
  }

  function warn(text) {
    const node = built('<div class="toast error" role="alert"><div></div></div>');
    node.firstChild.textContent = text;
    toast(node, `own-${Date.now()}`);
  }

  // -- actions on a turn ---------------------------------------------------------------------

  function edit(turn) {
    if (turn.classList.contains('editing')) return;
    const bubble = turn.querySelector('.bubble');
    const form = document.createElement('form');
    const area = document.createElement('textarea');
    form.className = 'edit';
    area.value = bubble.textContent;
    area.setAttribute('aria-label', words.edit_label);
    area.rows = Math.min(16, Math.max(2, area.value.split('\n', 17).length + 1));
    const row = document.createElement('div');
    const resend = button('resend', words.resend);
    resend.className = 'send';
    const cancel = button('cancel-edit', words.cancel);
    cancel.className = 'btn';
    row.append(cancel, resend);
    form.append(area, row);
    form.addEventListener('submit', (event) => event.preventDefault());
    turn.classList.add('editing');
    bubble.after(form);
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }

  function endEdit(turn) {
    turn.classList.remove('editing');
    const form = turn.querySelector('form.edit');
    if (form) form.remove();
    const again = turn.querySelector('[data-act="edit"]');
    if (again) again.focus();
  }

  function resend(turn) {
    const parent = turn.dataset.parent ? Number(turn.dataset.parent) : null;
    send(turn.querySelector('form.edit textarea').value, parent, turn.querySelector('form.edit'));
  }

  async function copy(text, control) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // no permission, or a page without https: the old way
      const area = document.createElement('textarea');
      area.value = text;
      area.className = 'sr';
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    const label = control.textContent;
    if (label === words.copied) return;
    control.textContent = words.copied;
    setTimeout(() => { control.textContent = label; }, 1500);
  }

  function rename(key, holder, title) {
    const input = document.createElement('input');
    input.className = 'rename';
    input.maxLength = 200;
    input.value = title;
    input.setAttribute('aria-label', words.rename_label);
    let ended = false;
    const end = (keep) => {
      if (ended) return;
      ended = true;
      input.replaceWith(holder);
      const text = input.value.trim();
      if (!keep || !text || text === title) return;
      holder.textContent = text; // at once; the server's answer says the same
      if (key === state.key) {
        document.title = `${text} · Corral`;
        const heading = document.querySelector('#head h1');
        if (heading) heading.textContent = text;
      }
      fire('rename', { key, text });
    };
    input.addEventListener('keydown', (event) => {
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === 'Enter') end(true);
      if (event.key === 'Escape') end(false);
      event.stopPropagation();
    });
    input.addEventListener('click', (event) => event.preventDefault());
    input.addEventListener('blur', () => end(true));
    holder.replaceWith(input);
    input.focus();
    input.select();
  }

  function open(key, id) {
    keepDraft();
    drawer(false);
    state.last = WINDOW;
    insist('view', { key: key || null, id: id || null, last: WINDOW });
  }

  /* The list has ROW pixels a row; the server sends those around the ones in view. */
  const ROW = 36;

  function shelf(mode, tag) {
    Object.assign(state, { mode, tag, first: 0 });
    byId('find').value = '';
    byId('listing').scrollTop = 0;
    fire('listing');
  }

  function scrolled() {
    const first = Math.max(0, Math.floor(byId('listing').scrollTop / ROW) - 45);
    if (Math.abs(first - state.first) < 25 && (first || !state.first)) return;
    state.first = first;
    fire('listing');
  }

  function drawer(show) {
    const on = show === undefined ? !document.body.classList.contains('drawer') : show;
    document.body.classList.toggle('drawer', on);
    const control = document.querySelector('#head [data-act="drawer"]');
    if (control) control.setAttribute('aria-expanded', String(on));
    if (on) byId('find').focus();
  }

  const act = {
    new: () => { open(null); byId('ask').focus(); },
    open: (el) => open(el.dataset.key, el.dataset.id ? Number(el.dataset.id) : null),
    drawer: () => drawer(),
    theme: () => theme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark'),
    idea: (el) => { byId('ask').value = el.textContent; fitHeight(); byId('ask').focus(); },
    send: () => send(byId('ask').value, state.leaf, byId('ask')),
    stop: () => fire('stop', { key: state.key }),
    again: (el) => { state.stuck = true; fire('again', { key: state.key, id: Number(el.dataset.id) }); },
    continue: (el) => { state.stuck = true; fire('resume', { key: state.key, id: Number(el.dataset.id) }); },
    anyway: (el) => {
      state.stuck = true;
      const id = Number(el.dataset.id);
      fire('anyway', { key: state.key, id, on: Boolean(document.querySelector(`#m-${id}.prompt`)) });
    },
    appeal: (el) => { el.disabled = true; fire('appeal', { key: state.key, id: Number(el.dataset.id) }); },
    version: (el) => fire('version', { key: state.key, id: Number(el.dataset.id) }),
    edit: (el) => edit(el.closest('.turn')),
    'edit-prompt': (el) => { const turn = byId(`m-${el.dataset.id}`); if (turn) edit(turn); },
    'cancel-edit': (el) => endEdit(el.closest('.turn')),
    resend: (el) => resend(el.closest('.turn')),
    copy: (el) => {
      const turn = el.closest('.turn');
      copy(turn.dataset.raw === undefined ? turn.querySelector('.bubble').textContent : turn.dataset.raw, el);
    },
    'copy-code': (el) => copy(el.closest('figure').querySelector('code').textContent, el),
    wrap: (el) => {
      const on = el.closest('figure').classList.toggle('wrapped');
      el.textContent = on ? words.unwrap : words.wrap;
    },
    unfold: (el) => {
      const open = el.closest('.turn').querySelector('.bubble').classList.toggle('folded');
      el.setAttribute('aria-expanded', String(!open));
      el.hidden = true;
    },
    shield: (el) => {
      const panel = byId(el.getAttribute('aria-controls'));
      panel.hidden = !panel.hidden;
      el.setAttribute('aria-expanded', String(!panel.hidden));
    },
    earlier: () => fire('view', { key: state.key, last: state.last + WINDOW }),
    jump: () => { state.stuck = true; follow(); },
    pin: (el) => fire('pin', { key: el.dataset.key, on: el.dataset.on === '1' }),
    rename: (el) => {
      const name = el.closest('.conv').querySelector('.name');
      rename(el.dataset.key, name, name.textContent);
    },
    'rename-title': (el) => {
      const title = document.querySelector('#head h1');
      rename(el.dataset.key, title, title.textContent);
    },
    trash: (el) => fire('trash', { key: el.dataset.key }),
    restore: (el) => { fire('restore', { key: el.dataset.key }); const t = el.closest('.toast'); if (t) t.remove(); },
    dismiss: (el) => el.closest('.toast').remove(),
    shelf: (el) => shelf(state.mode === el.dataset.mode ? '' : el.dataset.mode, state.tag),
    'trash-close': () => shelf('', ''),
    'archive-close': () => shelf('', ''),
    tag: (el) => shelf(state.mode, state.tag === el.dataset.tag ? '' : el.dataset.tag),
  };

  // -- language: the one chosen here, else the first of the browser's that there is --------------

  function language() {
    const there = document.querySelector('meta[name="corral-languages"]').content.split(' ');
    let wanted = [];
    try { wanted = [localStorage.getItem('corral-language') || '']; } catch { /* as the browser says */ }
    for (const name of [...wanted, ...navigator.languages]) {
      const traditional = /^zh-(hant|tw|hk|mo)/i.test(name) ? 'zh-Hant' : 'zh-Hans';
      const found = /^zh\b/i.test(name) ? traditional : name.split('-')[0].toLowerCase();
      if (there.includes(found)) return found;
    }
    return there[0];
  }

  const pressLast = (selector) => { const all = document.querySelectorAll(selector); if (all.length) all[all.length - 1].click(); };
  const shortcuts = { // as app/page/keys.py tells them
    k: () => act.new(),
    'shift f': () => { drawer(innerWidth <= 760); byId('find').focus(); },
    'shift e': () => pressLast('#window [data-act="edit"]'),
    'shift u': () => pressLast('#window .reply [data-act="again"]'),
    '.': () => { if (state.live) act.stop(); },
    '/': () => pressLast('[data-panel="keys"]'),
  };

  // -- light and dark ------------------------------------------------------------------------

  function theme(chosen) {
    if (chosen) { try { localStorage.setItem('corral-theme', chosen); } catch { /* for this visit only */ } }
    const given = document.querySelector('meta[name="corral-theme"]');
    let kept = chosen || (given && given.content !== 'auto' ? given.content : null);
    try { kept = chosen || localStorage.getItem('corral-theme') || kept; } catch { /* as given */ }
    const dark = kept ? kept === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    document.documentElement.dataset.theme = dark ? 'dark' : 'light';
    if (document.body) document.body.classList.toggle('dark', dark);
  }

  // -- listening -----------------------------------------------------------------------------

  function listen() {
    document.addEventListener('click', (event) => {
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
      if (event.key === 'Enter' && !event.shiftKey && area.id === 'ask') {
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
        if (!go) return;
        event.preventDefault();
        go();
      }
    });

    document.addEventListener('paste', (event) => {
      if (event.target.id !== 'ask') return;
      const text = event.clipboardData.getData('text/plain');
      if (text.length > HUGE_PASTE) offerAttachment(text);
    });

    let searching = 0;
    let drafting = 0;
    document.addEventListener('input', (event) => {
      if (event.target.id === 'find') {
        clearTimeout(searching);
        searching = setTimeout(() => fire('listing'), 150);
      } else if (event.target.id === 'ask') {
        fitHeight();
        clearTimeout(drafting);
        drafting = setTimeout(keepDraft, 300);
      }
    });

    document.addEventListener('change', (event) => {
      if (event.target.id !== 'language') return;
      try { localStorage.setItem('corral-language', event.target.value); } catch { return; }
      location.reload();
    });

    let scrolling = 0;
    document.addEventListener('scroll', (event) => {
      if (event.target.id === 'listing') {
        clearTimeout(scrolling);
        scrolling = setTimeout(scrolled, 60);
      }
      if (event.target.id !== 'scroll') return;
      state.stuck = atEnd();
      jumpButton();
    }, true);

    document.addEventListener('submit', (event) => event.preventDefault());
    // Gradio would abort its stream here and report that as an error; the browser just closes it.
    addEventListener('beforeunload', (event) => event.stopImmediatePropagation(), true);
    addEventListener('pagehide', () => { if (byId('ask')) keepDraft(); });
    addEventListener('resize', () => follow());
    // What another tab did in the meantime.
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState !== 'visible' || state.live || state.sending || !state.trigger) return;
      fire('view', { key: state.key || null });
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => theme());
  }

  // -- beginning -----------------------------------------------------------------------------

  const panes = {};
  let bridge = null;

  function begin(part) {
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
    words = JSON.parse(byId('words').dataset.words);
    document.documentElement.lang = language();
    byId('side').setAttribute('role', 'navigation');
    theme();
    if (navigator.platform.startsWith('Mac')) document.querySelector('.new kbd').textContent = '⌘ K';
    state.key = new URLSearchParams(location.search).get('c') || '';
    restoreDraft();
    connect(bridge);
    byId('ask').focus();
  }

  theme();
  listen();
  const waiting = window.corral || [];
  window.corral = { push: begin };
  waiting.forEach(begin);
})();

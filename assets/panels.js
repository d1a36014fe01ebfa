/* The dialogs Safety and Models. The server renders them; this opens, closes and sends what was
   chosen. Anything with [data-panel] opens one, [data-panel-act] stands on the controls inside. */
(() => {
  'use strict';

  const dialog = document.createElement('dialog');
  dialog.id = 'dialog';
  dialog.setAttribute('aria-labelledby', 'panel-title');
  const sheet = document.createElement('div');
  const said = document.createElement('p'); // stays while the sheet is drawn anew, so it is read out
  said.id = 'panel-said';
  said.setAttribute('role', 'status');
  dialog.append(sheet, said);

  let part = null;
  let wanted = ''; // the dialog that was asked for; what arrives for the other one is not shown
  let dirty = false;
  let polling = 0;

  function fire(name, data) {
    const key = new URLSearchParams(location.search).get('c');
    part.trigger(name, { key, ...data });
  }

  function paint() {
    const { value } = part.props;
    if (!value || typeof value !== 'object' || value.kind === undefined) return;
    clearTimeout(polling);
    // Also while the dialog is closed: the line at the foot of the list comes with the answer.
    if (value.loading) polling = setTimeout(() => fire('panel', { mode: 'models', on: true }), 700);
    if (!wanted || (value.kind && value.kind !== wanted)) return;
    if (value.html) draw(value);
    said.textContent = value.said || '';
    said.className = value.tone || '';
    if (!dialog.open) { wanted = ''; return; }
    if (value.tone === 'error') said.scrollIntoView({ block: 'nearest' });
  }

  function draw(value) {
    const held = sheet.contains(document.activeElement) ? document.activeElement.id : '';
    const same = dialog.open && sheet.firstElementChild && sheet.firstElementChild.dataset.kind === value.kind;
    const open = new Set(Array.from(sheet.querySelectorAll('details[open] > summary'), (s) => s.id));
    const scrolled = same ? sheet.querySelector('.sheet-body').scrollTop : 0;
    sheet.innerHTML = value.html;
    dirty = false;
    if (same) for (const id of open) document.getElementById(id)?.parentElement.setAttribute('open', '');
    if (!dialog.isConnected) document.getElementById('app').append(dialog);
    if (!dialog.open) dialog.showModal();
    sheet.querySelector('.sheet-body').scrollTop = scrolled;
    const again = held && document.getElementById(held);
    if (again && !again.disabled) again.focus({ preventScroll: true });
    else document.getElementById('panel-title').focus({ preventScroll: true });
  }

  /* The limits as the server keeps policies: [action, limit] for the usual ones, and the rules. */
  function limits() {
    const overall = {};
    const rules = [];
    for (const rule of sheet.querySelectorAll('.rule')) {
      const { category, side } = rule.dataset;
      const action = rule.querySelector('select').value;
      const limit = rule.querySelector('input').valueAsNumber;
      if (!category) overall[side] = [action, limit];
      else if (action !== 'usual') rules.push([category, side, action, limit]);
    }
    return JSON.stringify({ overall, rules });
  }

  function save() {
    const wrong = sheet.querySelector('.rule input:invalid');
    if (wrong) { wrong.reportValidity(); return; }
    fire('policy', { mode: 'own', text: limits() });
  }

  async function copy(el) {
    try {
      await navigator.clipboard.writeText(el.dataset.text);
    } catch { // no permission: mark the command, so that the keyboard can copy it
      getSelection().selectAllChildren(el.closest('li').querySelector('code'));
      return;
    }
    const label = el.textContent;
    if (label === el.dataset.done) return;
    el.textContent = el.dataset.done;
    said.className = 'info';
    said.textContent = el.dataset.done;
    setTimeout(() => { el.textContent = label; }, 1500);
  }

  const act = {
    close: () => dialog.close(),
    preset: (el) => fire('policy', { mode: 'preset', text: el.dataset.name }),
    save,
    use: (el) => fire('model', { text: el.dataset.name }),
    copy,
  };

  document.addEventListener('click', (event) => {
    const opener = event.target.closest('[data-panel]');
    if (opener && part) {
      wanted = opener.dataset.panel;
      said.textContent = '';
      fire('panel', { mode: wanted });
    }
  });

  dialog.addEventListener('click', (event) => {
    const el = event.target.closest('[data-panel-act]');
    if (el) act[el.dataset.panelAct](el);
    else if (event.target === dialog && !dirty) dialog.close(); // beside the sheet
  });

  dialog.addEventListener('input', (event) => {
    const rule = event.target.closest('.rule');
    if (!rule) return;
    dirty = true;
    said.textContent = '';
    if (event.target.tagName !== 'SELECT') return;
    rule.querySelector('input').disabled = ['usual', 'off'].includes(event.target.value);
  });

  // The page's own keys rest while a dialog is open; Escape closes it without our help.
  dialog.addEventListener('keydown', (event) => event.stopPropagation());

  dialog.addEventListener('close', () => {
    const opener = document.querySelector(`#app [data-panel="${wanted}"]`);
    wanted = '';
    dirty = false;
    // The browser gives the focus back, unless what had it was painted anew meanwhile.
    const active = document.activeElement;
    if (opener && (!active || active === document.body || dialog.contains(active))) opener.focus();
    // What stands behind it may be told anew (the first screen names the model): the page reads
    // itself again as it does when its tab comes back into view.
    document.dispatchEvent(new Event('visibilitychange'));
  });

  const begin = (given) => { part = given; part.watch('value', paint); };
  const waiting = window.corralPanels || [];
  window.corralPanels = { push: begin };
  waiting.forEach(begin);
})();

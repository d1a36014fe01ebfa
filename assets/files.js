/* Files: sent up in parts, and shown as chips beside what is written. The chips are the state: what
   is sent is the text and what stands in them, as `app/page/attach.py` takes it apart. */

import { button, built, tell, utter, warn } from './nodes.js';
import { fireDialog } from './panels.js';
import { byId, words } from './state.js';
import { keepDraft } from './write.js';

const PART = 270000; // bytes of a file in one request
const HUGE_PASTE = 10000; // characters from which a paste becomes a file
const uploads = []; // one after the other; the first is on its way

/* What is written in `root` and attached to it, as one text. */
export function whole(root) {
  const own = root.querySelector('textarea, .bubble');
  const files = Array.from(root.querySelectorAll('.file pre'), (pre) => pre.textContent);
  return [own.value ?? own.textContent, ...files].filter((text) => text.trim()).join('\n\n');
}

export function sendFile(file, mode, ended) {
  uploads.push({ file, mode, ended, place: 0, name: crypto.getRandomValues(new Uint32Array(4)).join('') });
  if (uploads.length === 1) sendPart();
}

function sendPart() {
  const [{ file, name, place, mode }] = uploads;
  const reader = new FileReader();
  uploads[0].place += PART;
  reader.onloadend = () => {
    const part = { upload: name, name: file.name, place: String(place), content: String(reader.result || '').split(',')[1] || '' };
    if (place + PART >= file.size) part.last = '1';
    fireDialog('desk', { mode, text: JSON.stringify(part) });
  };
  reader.readAsDataURL(file.slice(place, place + PART));
}

/* What the server says to a part: the next one goes, or the file is there, or it failed. */
export function answeredFile(value) {
  const [upload] = uploads;
  if (!upload) return;
  if (value.taken === upload.name) sendPart();
  else if (value.whole === upload.name || (!value.kind && value.tone === 'error')) {
    uploads.shift();
    if (uploads.length) sendPart();
    if (upload.ended) upload.ended(value);
  }
}

/* A file becomes a chip in the box; the holder that is returned has its node. */
export function attach(file) {
  const shown = { node: built('<li class="file busy" aria-busy="true"></li>') };
  shown.node.textContent = file.name;
  byId('files').append(shown.node);
  sendFile(file, 'attach.part', (value) => {
    const waiting = shown.node;
    shown.node = value.chip ? built(value.chip) : null;
    if (!value.chip) { waiting.remove(); warn(value.said); return; }
    waiting.replaceWith(shown.node);
    utter(value.said);
    keepDraft();
  });
  return shown;
}

export function detach(control) {
  const chip = control.closest('.file');
  const form = chip.closest('form');
  const beside = chip.nextElementSibling || chip.previousElementSibling;
  chip.remove();
  (beside ? beside.querySelector('.plain') : form.querySelector('textarea')).focus();
  if (form.id === 'composer') keepDraft();
}

/* A very long paste becomes a file, unless it is wanted as text. */
function attachPaste(text) {
  const ask = byId('ask');
  const { selectionStart, selectionEnd } = ask;
  const shown = attach(new File([text], words.pasted_name));
  const instead = button('dismiss', words.paste_text);
  instead.className = 'btn';
  instead.addEventListener('click', () => {
    if (shown.node) shown.node.remove();
    ask.setRangeText(text.replace(/\r\n?/g, '\n'), selectionStart, selectionEnd, 'end');
    ask.dispatchEvent(new Event('input', { bubbles: true }));
    ask.focus();
  });
  tell(words.pasted.replace('{count}', text.length.toLocaleString()), '', instead);
}

/* Files that are dropped on the conversation; elsewhere the browser would leave the page for them. */
export function listenForFiles() {
  const carries = (event) => event.dataTransfer && event.dataTransfer.types.includes('Files') && !event.target.closest?.('dialog');
  const over = (on) => document.body.classList.toggle('dropping', on);
  document.addEventListener('dragover', (event) => { if (carries(event)) { event.preventDefault(); over(true); } });
  document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) over(false); });
  document.addEventListener('drop', (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    over(false);
    for (const file of event.dataTransfer.files) attach(file);
  });
  document.addEventListener('paste', (event) => {
    if (event.target.id !== 'ask') return;
    const text = event.clipboardData.getData('text/plain');
    const { files } = event.clipboardData;
    if (text ? text.length <= HUGE_PASTE : !files.length) return;
    event.preventDefault();
    if (text) attachPaste(text);
    else for (const file of files) attach(file);
  });
  byId('pick').addEventListener('change', (event) => {
    for (const file of event.target.files) attach(file);
    event.target.value = ''; // the same file may be chosen once more
  });
}

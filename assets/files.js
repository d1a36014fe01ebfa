/* Files: sent up in parts, and shown as chips beside what is written. The chips are the state: what
   is sent is the text and what stands in them, as `app/page/attach.py` takes it apart. */

import { button, built, tell, utter, warn } from './nodes.js';
import { fireDialog } from './panels.js';
import { byId, fire, going, state, words } from './state.js';
import { keepDraft } from './write.js';

const PART = 270000; // bytes of a file in one request
const HUGE_PASTE = 10000; // characters from which a paste becomes a file
const uploads = []; // one after the other; the first is on its way
const begun = new Set(); // those that become chips and do not stand in the box yet
const text = (chip) => chip.querySelector('pre')?.textContent;

/* What is written in `root` and attached to it, as one text. */
export function whole(root) {
  const own = root.querySelector('textarea, .bubble');
  const files = Array.from(root.querySelectorAll('.file pre'), (pre) => pre.textContent);
  return [own.value ?? own.textContent, ...files].filter((part) => part.trim()).join('\n\n');
}

export const uploading = () => uploads.length > 0;

/* Send a file up, for the conversation that is in view now or on its way. */
export function sendFile(file, mode, ended) {
  const name = crypto.getRandomValues(new Uint32Array(4)).join('');
  const upload = { file, mode, ended, name, place: 0, key: going(), temporary: state.temporary };
  if (uploads.push(upload) === 1) sendPart();
  return upload;
}

function sendPart() {
  const [{ file, name, place, mode, key, temporary }] = uploads;
  const reader = new FileReader();
  uploads[0].place += PART;
  reader.onloadend = () => {
    const part = { upload: name, name: file.name, place: String(place), content: String(reader.result || '').split(',')[1] || '' };
    if (place + PART >= file.size) part.last = '1';
    fireDialog('desk', { mode, key, temporary, text: JSON.stringify(part) });
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

/* A file becomes a chip in the box of its conversation, or in its draft once that is out of view. */
export function attach(file) {
  const waiting = built('<li class="file busy" aria-busy="true"></li>');
  waiting.textContent = file.name;
  byId('files').append(waiting);
  const upload = sendFile(file, 'attach.part', ({ chip, said }) => {
    if (!begun.delete(upload)) return; // wanted as text instead
    if (!chip) { waiting.remove(); warn(said); return; }
    upload.chip = built(chip);
    utter(said);
    if (waiting.isConnected) { waiting.replaceWith(upload.chip); keepDraft(); return; }
    begun.add(upload); // the draft that is read on the way back may still lack it
    const { key, temporary } = upload;
    fire('draft', { mode: 'add', key: key || null, temporary, text: text(upload.chip) });
  });
  upload.chip = waiting;
  begun.add(upload);
  return upload;
}

/* Back in a conversation: its files that were left on their way stand in the box. */
export function returned() {
  for (const upload of begun) {
    const { chip, key, temporary } = upload;
    if (key !== state.key || (!key && temporary !== state.temporary)) continue;
    if (text(chip)) begun.delete(upload);
    if (!text(chip) || !whole(byId('composer')).includes(text(chip))) byId('files').append(chip);
  }
  keepDraft();
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
function attachPaste(pasted) {
  const ask = byId('ask');
  const { selectionStart, selectionEnd } = ask;
  const upload = attach(new File([pasted], words.pasted_name));
  const instead = button('dismiss', words.paste_text);
  instead.className = 'btn';
  instead.addEventListener('click', () => {
    begun.delete(upload);
    upload.chip.remove();
    ask.setRangeText(pasted.replace(/\r\n?/g, '\n'), selectionStart, selectionEnd, 'end');
    ask.dispatchEvent(new Event('input', { bubbles: true }));
    ask.focus();
  });
  tell(words.pasted.replace('{count}', pasted.length.toLocaleString()), '', instead);
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
    const pasted = event.clipboardData.getData('text/plain');
    const { files } = event.clipboardData;
    if (pasted ? pasted.length <= HUGE_PASTE : !files.length) return;
    event.preventDefault();
    if (pasted) attachPaste(pasted);
    else for (const file of files) attach(file);
  });
  byId('pick').addEventListener('change', (event) => {
    for (const file of event.target.files) attach(file);
    event.target.value = ''; // the same file may be chosen once more
  });
}

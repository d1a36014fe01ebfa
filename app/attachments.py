"""Files that go into a prompt: text, Markdown, code and PDF → text, marked as material.

Nothing of a file is run or loaded; what hides in it from the reader is taken out by
`safety.injection`, which also tells the guard where a document begins and ends.
"""

from __future__ import annotations

import json
import unicodedata
from io import BytesIO

from safety.injection import as_data

MAX_BYTES = 30 << 20
MAX_CHARS = 800_000
MAX_SENT_BYTES = 850_000  # what one request carries, with room for words of one's own
MAX_PAGES = 2_000
MAX_NAME_CHARS = 80


class AttachmentInvalid(ValueError):
    """Nothing readable is in the file. `code` names the sentence for it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def document(name: str, content: bytes) -> str:
    """The text of a file as it goes into a prompt. Raises `AttachmentInvalid`."""
    text = _pdf(content) if content[:1024].lstrip().startswith(b"%PDF-") else _text(content)
    # As a browser keeps it: it would turn these line ends into its own and drop the zero bytes.
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if not text.strip():
        raise AttachmentInvalid("empty")
    if len(text) > MAX_CHARS or _sent_bytes(text) > MAX_SENT_BYTES:
        raise AttachmentInvalid("too_long")
    return as_data(text, name=plain_name(name))


def plain_name(name: str) -> str:
    """A file's name on one line, as it is read: without marks that hide letters or turn them."""
    line = " ".join(name.split())
    shown = "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs"))
    shown = " ".join(shown.split())
    if len(shown) <= MAX_NAME_CHARS:
        return shown or "?"
    return f"{shown[: MAX_NAME_CHARS - 20]}…{shown[-19:]}"  # its ending says what it is


def _sent_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"))


def _text(content: bytes) -> str:
    if b"\0" in content[:4096] and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise AttachmentInvalid("kind")
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    for name in (encoding, "gb18030"):  # what Chinese Windows writes, after UTF-8
        try:
            return content.decode(name)
        except UnicodeDecodeError:
            continue
    raise AttachmentInvalid("kind")


def _pdf(content: bytes) -> str:
    """The text of each page, an empty line between pages. A scan without text has none."""
    from pypdf import PdfReader  # only where it is needed: it takes a while to load

    try:
        reader = PdfReader(BytesIO(content), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise AttachmentInvalid("encrypted")
        if len(reader.pages) > MAX_PAGES:
            raise AttachmentInvalid("too_long")
        pages = []
        for page in reader.pages:
            pages.append(page.extract_text())
            if sum(map(len, pages)) > MAX_CHARS:
                raise AttachmentInvalid("too_long")
    except AttachmentInvalid:
        raise
    except Exception as error:  # a damaged file can make the parser fail anywhere
        raise AttachmentInvalid("unreadable") from error
    return "\n\n".join(pages)

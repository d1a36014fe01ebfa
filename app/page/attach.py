"""Files beside a message: chips in the box and under what was sent, and the taking in of a file.

A message is one text: the user's words, then each file between its marks (`safety.injection`). On
the page the files stand apart as chips that unfold to what the model reads; sent, kept as a draft,
edited and exported they are the same text.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.attachments import MAX_BYTES, AttachmentInvalid, document, plain_name
from app.page.payload import Payload, PayloadInvalid
from app.page.templates import Templates
from app.page.uploads import FileTooBig, Uploads
from app.services import Services
from engine.base import Engine, Message
from safety.injection import Document, apart, judge_documents

_MAX_KNOWN = 100


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found out of a document: its tokens, if a model was there, and whether to warn."""

    num_tokens: int | None
    gives_orders: bool


class Chips:
    """Renders documents as chips under a message: the shield beside them tells what was found."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._say = templates.strings.say

    def sent(self, documents: Sequence[Document]) -> list[Markup]:
        """The chips of a message that was sent."""
        return [Markup(self.chip(each, self._hidden(each))) for each in documents]

    def chip(self, document: Document, why: str, num_tokens: int | None = None) -> str:
        """The chip of one document; `why` it bears a warning, if it does."""
        size = self._size(document, num_tokens)
        return self._templates.render(
            "file", file=document, why=why, size=size, num_tokens=num_tokens
        )

    def _size(self, document: Document, num_tokens: int | None) -> str:
        if num_tokens is None:
            return self._say("attach.chars", count=f"{len(document.marked):,}")
        return self._say("attach.tokens", count=f"{num_tokens:,}")

    def _hidden(self, document: Document) -> str:
        count = document.num_removed
        return self._say("attach.hidden", count=f"{count:,}") if count else ""


class DraftChips(Chips):
    """Chips in the box: they say what a file would take of the context, and warn before it is sent.

    Counts and scans: not on the event loop.
    """

    def __init__(self, services: Services, templates: Templates) -> None:
        super().__init__(templates)
        self._services = services
        self._known: OrderedDict[bytes, _Known] = OrderedDict()  # by hash: no text is kept here

    def draft(self, text: str) -> dict[str, object]:
        """An unsent message as the box shows it: the user's own words, and the chips."""
        own, documents = apart(text)
        return {"draft": own, "files": "".join(map(self.measured, documents))}

    def measured(self, document: Document) -> str:
        """The chip of a document that is to be sent."""
        known = self._look(document)
        why = self._hidden(document) or (self._say("attach.orders") if known.gives_orders else "")
        return self.chip(document, why, known.num_tokens)

    def told(self, document: Document) -> str:
        """What is read out once the chip is there."""
        size = self._size(document, self._look(document).num_tokens)
        return self._say("attach.taken", name=document.name, size=size)

    def _look(self, document: Document) -> _Known:
        engine = self._services.engine.peek()
        text = document.marked
        model = engine.info().fingerprint if engine else ""
        digest = hashlib.sha256(f"{model}\n{text}".encode("utf-8", "replace")).digest()
        if digest not in self._known:
            verdict = judge_documents(text)
            num_tokens = _num_tokens(engine, text) if engine else None
            self._known[digest] = _Known(num_tokens, bool(verdict and verdict.scores))
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return self._known[digest]


def _num_tokens(engine: Engine, text: str) -> int:
    """How much longer a message becomes with `text` after its other words."""
    words: Message = {"role": "user", "content": "."}
    longer: Message = {"role": "user", "content": f".\n\n{text}"}
    return engine.count_tokens([longer]) - engine.count_tokens([words])


class AttachPanel:
    """Takes a file in parts and gives its chip. It has no sheet: the box is where chips stand."""

    def __init__(self, services: Services, templates: Templates, uploads: Uploads) -> None:
        self._say = templates.strings.say
        self._services = services
        self._chips = DraftChips(services, templates)
        self._uploads = uploads

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """Nothing: no control of the page opens it."""
        raise PayloadInvalid("mode")

    def act(
        self, user_id: int, verb: str, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """Take a part of a file; with the last one, give the chip or say why there is none."""
        if verb != "part":
            raise PayloadInvalid("verb")
        upload = fields.get("upload", "")
        temporary = self._services.store.temporary
        unwritten = payload.temporary or temporary.holds(user_id, payload.key)
        try:
            content = self._uploads.take(user_id, fields, max_bytes=MAX_BYTES, unwritten=unwritten)
            if content is None:
                return {"taken": upload, "quiet": True}
            _, (taken,) = apart(document(fields.get("name", ""), content))
        except (AttachmentInvalid, FileTooBig) as error:
            code = error.code if isinstance(error, AttachmentInvalid) else "too_long"
            name = plain_name(fields.get("name", ""))
            said = self._say(f"attach.{code}")
            return {"whole": upload, "said": f"{name}: {said}", "tone": "error"}
        chip, told = self._chips.measured(taken), self._chips.told(taken)
        return {"whole": upload, "chip": chip, "said": told, "quiet": True}

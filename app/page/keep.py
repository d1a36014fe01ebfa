"""The dialog on keeping: tags, archive, copies and exports of a conversation, and imports."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

from app import export
from app.details import translated
from app.imports.files import MAX_BYTES, ImportInvalid, read
from app.page.payload import Payload, PayloadInvalid
from app.page.templates import Templates
from app.page.uploads import Uploads
from app.render import Renderer
from app.services import Services
from storage.export import FORMAT, VERSION
from storage.records import Conflict, StorageError

_MAX_REPORTED = 500


class KeepPanel:
    """Shows how the open conversation is kept; gives and takes files."""

    def __init__(
        self, services: Services, templates: Templates, renderer: Renderer, uploads: Uploads
    ) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say
        self._renderer = renderer
        self._uploads = uploads

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """The conversation's own part, if one is open, then files in and out."""
        store = self._services.store
        conversation = store.conversation(user_id, payload.key) if payload.key else None
        html = self._templates.render(
            "panel_keep",
            conversation=conversation,
            tags=store.tags(user_id),
            temporary=store.temporary.holds(user_id, payload.key),
        )
        return {"html": html}

    def act(
        self, user_id: int, verb: str, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """Change how a conversation is kept, or give or take a file."""
        store, key = self._services.store, payload.key or ""
        if verb == "tags":
            store.tag(user_id, key, fields.get("tags", "").replace("，", ",").split(","))
            return {**self.view(user_id, payload), "said": self._say("keep.tagged"), "tone": "info"}
        if verb == "archive":
            kept = store.conversation(user_id, key)
            changed = store.archive(user_id, key, kept.archived_at is None)
            said = "keep.archived" if changed.archived_at else "keep.unarchived"
            return {**self.view(user_id, payload), "said": self._say(said), "tone": "info"}
        if verb == "keep":
            kept = store.add_document(user_id, store.document(user_id, key))
            self._services.end_temporary(user_id, key)
            return {"close": True, "open": kept.key}
        if verb == "copy":
            title = self._say("keep.copy_title", title=store.conversation(user_id, key).title)
            return {"close": True, "open": store.copy(user_id, key, title=title).key}
        if verb in ("json", "markdown", "html"):
            return self._exported(user_id, key, verb)
        if verb == "all":
            out = io.StringIO()
            count = store.export(out, user_id=user_id)
            said = self._say("keep.exported_all", count=count)
            return self._file("corral-conversations.json", out.getvalue(), said)
        if verb == "part":
            return self._part(user_id, fields)
        raise PayloadInvalid("verb")

    def _exported(self, user_id: int, key: str, kind: str) -> dict[str, object]:
        store = self._services.store
        conversation = store.conversation(user_id, key)
        if kind == "json":
            head = {"format": FORMAT, "version": VERSION}
            whole = {**head, "conversations": [store.document(user_id, key)]}
            text = json.dumps(whole, ensure_ascii=False, indent=1)
        elif kind == "markdown":
            path = store.path(user_id, key)
            text = export.markdown(conversation, path, self._say("page.turn.you"))
        else:
            path = store.path(user_id, key)
            text = export.html(conversation, path, self._templates, self._renderer)
        ending = {"markdown": "md"}.get(kind, kind)
        name = export.file_name(conversation.title, ending)
        return self._file(name, text, self._say("keep.exported", name=name))

    def _file(self, name: str, text: str, said: str) -> dict[str, object]:
        return {"file": {"name": name, "text": text}, "said": said, "tone": "info"}

    def _part(self, user_id: int, fields: Mapping[str, str]) -> dict[str, object]:
        """Take one part of a file; with the last one, enter what it holds and report."""
        whole = self._uploads.take(user_id, fields, max_bytes=MAX_BYTES)
        if whole is None:
            return {"taken": fields["upload"], "quiet": True}
        return self._imported(user_id, whole)

    def _imported(self, user_id: int, content: bytes) -> dict[str, object]:
        rows: list[tuple[str, str, str]] = []  # (state, title, what became of it)
        try:
            for found in read(content):
                if found.document is None:
                    rows.append(("error", found.title, self._say(f"import.{found.problem}")))
                    continue
                try:
                    made = self._services.store.add_document(user_id, found.document)
                except Conflict:
                    rows.append(("same", found.title, self._say("import.here")))
                    continue
                except StorageError as error:
                    why = translated(str(error), self._templates.strings) or str(error)
                    rows.append(("error", found.title, why))
                    continue
                count = len(found.document["messages"])
                told = self._say("import.entered", count=count)
                if found.num_left_out:
                    told += " " + self._say("import.left_out", count=found.num_left_out)
                rows.append(("ok", made.title, told))
        except ImportInvalid as error:
            if not rows:
                return {"said": self._say(f"import.{error.code}"), "tone": "error"}
            rows.append(("error", "", self._say(f"import.{error.code}")))
        num_entered = sum(state == "ok" for state, _, _ in rows)
        html = self._templates.render("import_report", rows=rows[:_MAX_REPORTED])
        said = self._say("import.done", entered=num_entered, all=len(rows))
        return {"into": "import-report", "html": html, "said": said, "tone": "info"}

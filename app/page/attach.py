"""The dialog Attach: a file becomes part of the message that is being written."""

from __future__ import annotations

from collections.abc import Mapping

from app.attachments import MAX_BYTES, AttachmentInvalid, document
from app.page.payload import Payload, PayloadInvalid
from app.page.templates import Templates
from app.page.uploads import Uploads
from app.services import Services


class AttachPanel:
    """Reads a file and says what it takes, before it goes into the message."""

    def __init__(self, services: Services, templates: Templates, uploads: Uploads) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say
        self._uploads = uploads

    def view(self, user_id: int, payload: Payload) -> dict[str, object]:
        """Where to choose a file."""
        return {"html": self._templates.render("panel_attach")}

    def act(
        self, user_id: int, verb: str, payload: Payload, fields: Mapping[str, str]
    ) -> dict[str, object]:
        """Take a part of a file; with the last one, put its text into the message."""
        if verb != "part":
            raise PayloadInvalid("verb")
        unwritten = payload.temporary
        content = self._uploads.take(user_id, fields, max_bytes=MAX_BYTES, unwritten=unwritten)
        if content is None:
            return {"taken": fields["upload"], "quiet": True}
        try:
            text = document(fields.get("name", ""), content)
        except AttachmentInvalid as error:
            return {"said": self._say(f"attach.{error.code}"), "tone": "error"}
        return {"close": True, "append": text}

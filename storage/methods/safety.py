"""The store on the safety log, on text that was held back, and on the audit."""

from __future__ import annotations

from storage import audit, conversations, safety_log, tree
from storage.audit import AuditEntry
from storage.methods.access import Access
from storage.records import SafetyEvent


class SafetyMethods(Access):
    """What was judged, what was held back, what was done. All methods block."""

    _digest_key: bytes | None = None

    def record_safety(self, event: SafetyEvent) -> None:
        """Write a line to the safety log."""
        self._writer.call(lambda db: safety_log.add(db, event))

    def safety_events(
        self, *, user_id: int | None = None, limit: int = 200, outcome: str = "", category: str = ""
    ) -> list[SafetyEvent]:
        """The newest lines of the safety log, of one user or of all."""
        with self._readers.snapshot() as db:
            return safety_log.newest(
                db, user_id=user_id, limit=limit, outcome=outcome, category=category
            )

    def judged_messages(self, user_id: int, *, limit: int = 500) -> list[SafetyEvent]:
        """How a user's newest prompts and whole answers were judged, newest first."""
        with self._readers.snapshot() as db:
            return safety_log.whole_messages(db, user_id, limit)

    def digest(self, text: str) -> str:
        """The keyed hash under which the safety log speaks of `text`."""
        if self._digest_key is None:
            self._digest_key = self._writer.call(safety_log.digest_key)
        return safety_log.digest(self._digest_key, text)

    def withheld(self, user_id: int, key: str, message_id: int) -> str:
        """What the guard held back of an answer, "" if nothing is kept."""
        with self._reading(key) as db:
            tree.message(db, conversations.get(db, user_id, key), message_id)
            return safety_log.withheld(db, message_id)

    def drop_withheld(self, *, older_than_days: int) -> int:
        """Forget held-back text that is older; say of how many answers it was."""
        return self._writer.call(lambda db: safety_log.drop_withheld(db, older_than_days))

    def record(self, actor: int | None, action: str, target: str = "", detail: str = "") -> None:
        """Write a line of audit: ids, scores and keyed hashes, never text."""
        self._writer.call(lambda db: audit.record(db, actor, action, target, detail))

    def audit(self, *, limit: int = 200) -> list[AuditEntry]:
        """The newest lines of the audit, newest first."""
        with self._readers.snapshot() as db:
            return audit.newest(db, limit)

    def audit_intact(self) -> bool:
        """Whether no line was changed or removed behind the store's back."""
        with self._readers.snapshot() as db:
            return audit.intact(db)

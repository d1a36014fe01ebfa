"""What stands behind a message: the verdicts on it and the engine runs that wrote it."""

from __future__ import annotations

import json
import math
import sys
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from storage.clock import now
from storage.connection import Database
from storage.records import BlockRecord, CodeFinding, Generation, NotFound, VerdictRecord
from storage.text import well_formed

_VERDICT_COLUMNS = (
    "stage",
    "guard",
    "guard_version",
    "action",
    "score",
    "category",
    "threshold",
    "scores",
    "policy_version",
    "reason",
    "upto_char",
    "seconds",
    "at",
    "blocks",
)
_GENERATION_COLUMNS = (
    "device",
    "precision",
    "sampling",
    "seed",
    "num_prompt",
    "num_reused",
    "num_new",
    "num_left_out",
    "queue_seconds",
    "first_token_seconds",
    "total_seconds",
    "tokens_per_second",
    "finish_reason",
    "error_code",
    "from_char",
    "token_ids",
    "at",
    "system_prompt",
    "num_given",
    "memory_bytes",
)


def add_verdict(db: Database, message_id: int, verdict: VerdictRecord) -> None:
    values = [getattr(verdict, column) for column in _VERDICT_COLUMNS]
    if math.isnan(verdict.score):  # SQLite would make it NULL; what cannot be read is unsafe
        values[_VERDICT_COLUMNS.index("score")] = 1.0
    values[_VERDICT_COLUMNS.index("scores")] = _json(verdict.scores)
    values[_VERDICT_COLUMNS.index("reason")] = well_formed(verdict.reason)
    values[_VERDICT_COLUMNS.index("at")] = verdict.at or now()
    values[_VERDICT_COLUMNS.index("blocks")] = _blocks_json(verdict.blocks)
    _insert(db, "verdict", message_id, _VERDICT_COLUMNS, values)


def add_generation(
    db: Database, message_id: int, generation: Generation, *, counts: bool = True
) -> None:
    """Keep an engine run; one that `counts` is added to the day's use."""
    values = [
        getattr(generation, column) if column not in ("sampling", "seed", "token_ids") else None
        for column in _GENERATION_COLUMNS
    ]
    values[_GENERATION_COLUMNS.index("sampling")] = _json(generation.sampling)
    values[_GENERATION_COLUMNS.index("seed")] = str(generation.seed)
    values[_GENERATION_COLUMNS.index("system_prompt")] = well_formed(generation.system_prompt)
    values[_GENERATION_COLUMNS.index("token_ids")] = pack_ids(generation.token_ids)
    values[_GENERATION_COLUMNS.index("at")] = generation.at or now()
    columns = ("model_id", *_GENERATION_COLUMNS)
    _insert(db, "generation", message_id, columns, [_model_id(db, generation), *values])
    if counts:
        _count_usage(db, message_id, generation)


def verdicts(db: Database, ids: Iterable[int]) -> dict[int, list[VerdictRecord]]:
    """Verdicts of each message, oldest first."""
    found: dict[int, list[VerdictRecord]] = defaultdict(list)
    columns = ", ".join(f"v.{column}" for column in _VERDICT_COLUMNS)
    for message_id, *values in db.execute(
        f"SELECT v.message_id, {columns} FROM json_each(?) AS i "
        "CROSS JOIN verdict AS v ON v.message_id = i.value ORDER BY v.id",
        (json.dumps(list(ids)),),
    ):
        fields = dict(zip(_VERDICT_COLUMNS, values, strict=True))
        fields |= {"scores": mapping(fields["scores"]), "blocks": _blocks(fields["blocks"])}
        found[message_id].append(VerdictRecord(**fields))
    return found


def generations(db: Database, ids: Iterable[int]) -> dict[int, list[Generation]]:
    """Engine runs of each message, oldest first."""
    found: dict[int, list[Generation]] = defaultdict(list)
    columns = ", ".join(f"g.{column}" for column in _GENERATION_COLUMNS)
    for message_id, model, fingerprint, *values in db.execute(
        f"SELECT g.message_id, o.name, o.fingerprint, {columns} FROM json_each(?) AS i "
        "CROSS JOIN generation AS g ON g.message_id = i.value "
        "CROSS JOIN model AS o ON o.id = g.model_id ORDER BY g.id",
        (json.dumps(list(ids)),),
    ):
        fields = dict(zip(_GENERATION_COLUMNS, values, strict=True))
        fields["sampling"] = mapping(fields["sampling"])
        fields["seed"] = int(fields["seed"]) if fields["seed"].lstrip("-").isdecimal() else 0
        fields["token_ids"] = unpack_ids(fields["token_ids"])
        found[message_id].append(Generation(model=model, fingerprint=fingerprint, **fields))
    return found


def recent(db: Database, user_id: int, since: int, limit: int) -> list[Generation]:
    """A user's engine runs since `since`, oldest first, the last `limit` of them."""
    rows = db.execute(
        "SELECT g.message_id FROM generation AS g CROSS JOIN message AS m ON m.id = g.message_id "
        "WHERE m.user_id = ? ORDER BY g.id DESC LIMIT ?",
        (user_id, limit),
    )
    ids = {row[0] for row in rows}
    runs = [run for found in generations(db, ids).values() for run in found]
    return sorted((run for run in runs if run.at >= since), key=lambda run: run.at)[-limit:]


def pack_ids(ids: Sequence[int]) -> bytes:
    """Token ids as a compact BLOB: unsigned 32-bit little-endian, deflated; b"" for none.

    Raises `ValueError` for a number that is no token id.
    """
    if not ids:
        return b""
    try:
        words = array("I", ids)
    except (OverflowError, TypeError) as error:
        raise ValueError("Token ids are whole numbers from 0 to 2**32 - 1.") from error
    if sys.byteorder == "big":
        words.byteswap()
    return zlib.compress(words.tobytes(), 6)


def unpack_ids(blob: bytes) -> tuple[int, ...]:
    """The reverse of `pack_ids`; of a damaged BLOB, no ids: they can be encoded anew."""
    try:
        words = array("I", zlib.decompress(blob) if blob else b"")
    except (zlib.error, ValueError):
        return ()
    if sys.byteorder == "big":
        words.byteswap()
    return tuple(words)


def _insert(
    db: Database, table: str, message_id: int, columns: Sequence[str], values: Sequence[object]
) -> None:
    marks = ", ".join("?" for _ in columns)
    cursor = db.execute(
        f"INSERT INTO {table} (message_id, {', '.join(columns)}) "
        f"SELECT id, {marks} FROM message WHERE id = ?",
        [*values, message_id],
    )
    if cursor.rowcount != 1:
        raise NotFound("This message does not exist any more. Reload the conversation.")


def _model_id(db: Database, generation: Generation) -> int:
    named = (generation.model, generation.fingerprint)
    db.execute("INSERT OR IGNORE INTO model (name, fingerprint) VALUES (?, ?)", named)
    row = db.execute("SELECT id FROM model WHERE name = ? AND fingerprint = ?", named).fetchone()
    return int(row[0])


def _count_usage(db: Database, message_id: int, generation: Generation) -> None:
    db.execute(
        "INSERT INTO usage_day (user_id, day, num_requests, num_prompt, num_new) "
        "SELECT user_id, date('now'), 1, ?, ? FROM message WHERE id = ? "
        "ON CONFLICT (user_id, day) DO UPDATE SET num_requests = num_requests + 1, "
        "num_prompt = num_prompt + excluded.num_prompt, num_new = num_new + excluded.num_new",
        (generation.num_prompt, generation.num_new, message_id),
    )


def mapping(text: str) -> dict[str, Any]:
    """A JSON object; of a damaged one nothing, so that its message can still be read."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _blocks_json(blocks: Sequence[BlockRecord]) -> str:
    """As JSON; "" for none, which most judgements have."""
    if not blocks:
        return ""
    return well_formed(json.dumps([asdict(one) for one in blocks], ensure_ascii=False))


def _blocks(text: str) -> tuple[BlockRecord, ...]:
    """What `_blocks_json` wrote; of a damaged one nothing."""
    try:
        return tuple(
            BlockRecord(**{**one, "findings": tuple(CodeFinding(**f) for f in one["findings"])})
            for one in json.loads(text or "[]")
        )
    except (ValueError, TypeError, KeyError):
        return ()


def _json(values: Mapping[str, object]) -> str:
    return json.dumps(dict(values), ensure_ascii=False, separators=(",", ":"), default=str)

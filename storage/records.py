"""What the store speaks: messages with identity, and everything recorded about them.

All records are frozen and carry no behaviour. Times are milliseconds since 1970, UTC.

    StorageError
    ├── NotFound            no such row, or somebody else's: the two look alike on purpose
    ├── Conflict            the tree changed under the caller: reload and try again
    ├── DatabaseDamaged     the file is not, or no longer, a sound database
    ├── DatabaseNewer       written by a newer Corral; nothing was changed
    ├── DatabaseBusy        another Corral writes to this data folder
    ├── FolderUnwritable    the data folder cannot be written to
    ├── DiskFull            no room left; everything written so far is kept
    └── StoreClosed         the store was closed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

OWNER_ID = 1  # the owner of the machine is user 1 from the first migration

Role = Literal["system", "user", "assistant"]
Status = Literal["streaming", "done", "stopped", "interrupted", "blocked", "cut", "error"]
Stage = Literal["prompt", "partial", "final", "code", "document"]
Shelf = Literal["open", "archive", "trash"]  # where a conversation is listed
SavedKind = Literal["prompt", "persona", "sampling"]
Action = Literal["allow", "log", "warn", "block", "unchecked"]
Outcome = Literal["shown", "withheld", "overridden", "appealed"]
BlockState = Literal["checked", "flagged", "not checked"]


class StorageError(Exception):
    """Base of everything the store raises on purpose."""


class NotFound(StorageError):
    """No such row for this user."""


class Conflict(StorageError):
    """The tree changed under the caller."""


class DatabaseDamaged(StorageError):
    """The file is not a sound database."""


class DatabaseNewer(StorageError):
    """The database was written by a newer Corral."""


class DatabaseBusy(StorageError):
    """Another process writes to this database."""


class FolderUnwritable(StorageError):
    """The data folder cannot be written to."""


class DiskFull(StorageError):
    """No room left on the disk."""


class StoreClosed(StorageError):
    """The store was closed."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who has conversations. The owner is user 1."""

    id: int
    name: str
    role: Literal["owner", "user", "guest"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A thread of messages. `key` is random and is what pages and links use; `id` stays inside."""

    id: int
    key: str
    user_id: int
    title: str
    system_prompt: str
    active_leaf_id: int | None
    created_at: int
    updated_at: int
    pinned: bool = False
    archived_at: int | None = None
    trashed_at: int | None = None
    choices: Mapping[str, object] = field(default_factory=dict)  # as `app.choices` writes them
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CodeFinding:
    """A weakness in a block of code. `line` counts within the block, from 1; `cwe` 0: no number."""

    rule: str
    cwe: int
    severity: str
    line: int
    what: str


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """What the code checks said of one fenced block of a reply.

    `digest` tells which block it was (`safety.code_blocks.CodeBlock.digest`). `reason`: why it, or
    a part of the look at it, was not checked.
    """

    digest: str
    state: BlockState
    reason: str = ""
    findings: Sequence[CodeFinding] = ()


@dataclass(frozen=True, slots=True)
class VerdictRecord:
    """One judgement as it is kept: scores and what was done, never the text.

    `blocks`: of a judgement on code, the blocks of the reply in order.
    """

    stage: Stage
    guard: str
    guard_version: str
    action: Action
    score: float
    category: str = ""  # category key that decided; empty if none did
    threshold: float = 0.0  # the limit that the score was held against
    scores: Mapping[str, float] = field(default_factory=dict)
    policy_version: str = ""
    reason: str = ""  # why the guard could not judge
    upto_char: int = 0
    seconds: float = 0.0
    at: int = 0
    blocks: Sequence[BlockRecord] = ()


@dataclass(frozen=True, slots=True)
class SafetyEvent:
    """A line of the safety log: a judgement, or what a person said to one. It outlives its message.

    `unsafe` is P(unsafe) as the guard gave it; `digest` a keyed hash of the judged text.
    """

    message_id: int
    stage: Stage
    guard: str
    guard_version: str
    policy_version: str
    action: Action
    outcome: Outcome
    score: float
    category: str = ""
    threshold: float = 0.0
    unsafe: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    upto_char: int = 0
    seconds: float = 0.0
    digest: str = ""
    user_id: int = 0
    at: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """One run of the engine that wrote (part of) a reply: provenance and cost.

    `from_char` is where in the message this run began (0, or the length that was there when it
    was continued). `token_ids` are what the model wrote, for exact prefix reuse and replay; the
    first `num_given` of them it was given to go on from.
    """

    model: str
    fingerprint: str
    device: str
    precision: str
    sampling: Mapping[str, object]
    seed: int
    num_prompt: int
    num_reused: int
    num_new: int
    queue_seconds: float
    first_token_seconds: float
    total_seconds: float
    tokens_per_second: float
    finish_reason: str
    error_code: str = ""
    from_char: int = 0
    num_left_out: int = 0  # messages that no longer fitted the context
    token_ids: Sequence[int] = ()
    at: int = 0
    system_prompt: str = ""  # as the model read it
    num_given: int = 0  # of `token_ids`, those taken over from another version
    memory_bytes: int = 0  # held on the model's device when the run ended; 0: not known


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person thinks of one answer: a thumb (-1, 0, 1) and a note."""

    thumb: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one prompt, side by side, and which of them a person prefers.

    A degree runs from 1 (negligibly better, or unsure) over 2 (slightly) and 3 (better) to 4
    (significantly better), negative where the first answer is the better one; None: not rated.
    """

    id: int
    conversation_id: int
    prompt_id: int
    first_id: int
    second_id: int
    blind: bool
    helpfulness: int | None = None
    safety: int | None = None
    note: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Saved:
    """A prompt, persona or sampling preset of a user's own, under a name."""

    id: int
    kind: SavedKind
    use_case: str
    name: str
    body: str


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A node of the message tree.

    `version` of `num_versions` says which of the siblings at this place it is, from 1.
    `sibling_ids` are all of them in order of age. `verdicts` and `generations` are oldest first.
    """

    id: int
    conversation_id: int
    parent_id: int | None
    role: Role
    status: Status
    content: str
    created_at: int
    updated_at: int
    version: int = 1
    num_versions: int = 1
    sibling_ids: Sequence[int] = ()
    verdicts: Sequence[VerdictRecord] = ()
    generations: Sequence[Generation] = ()
    error_code: str = ""
    feedback: Feedback | None = None
    removed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One prompt with its reply."""

    prompt: MessageRecord
    reply: MessageRecord


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result. `snippet` is plain text; `marks` are (start, end) of the hits in it."""

    conversation_key: str
    conversation_title: str
    message_id: int | None  # None: the title matched
    role: Role | None
    snippet: str
    marks: Sequence[tuple[int, int]]
    at: int

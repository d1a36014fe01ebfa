"""The tables, as numbered migrations. A released migration is never edited; a new one is added.

Everything works on SQLite 3.40: STRICT tables, an external-content FTS5 table, no
`contentless_delete`. Every row that a user owns carries `user_id`, and composite foreign keys make
sure that a message cannot hang in another user's conversation. Three rules live in the database
itself: an assistant's message becomes 'done' only with a final verdict that does not block, the
audit only grows, and the search index follows `search_entry`.

Times are milliseconds since 1970, UTC; ids are never reused (AUTOINCREMENT), so that a late write
to a purged message cannot land in another one.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("corral")


@migrations()
def m001_first(db: Database) -> None:
    """Users, conversations, the message tree, what was generated and judged, search, audit."""
    db.executescript(_USERS)
    db.executescript(_PEOPLE)
    db.executescript(_CONVERSATIONS)
    db.executescript(_RECORDS)
    db.executescript(_SAFETY)
    db.executescript(_OPINIONS)
    db.executescript(_SEARCH)
    db.executescript(_AUDIT)


_USERS = """
CREATE TABLE user (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    role TEXT NOT NULL CHECK (role IN ('owner', 'user', 'guest')),
    password_hash TEXT,
    daily_token_quota INTEGER,
    created_at INTEGER NOT NULL,
    disabled_at INTEGER
) STRICT;

CREATE TABLE session (
    token_sha256 BLOB PRIMARY KEY CHECK (length(token_sha256) = 32),
    user_id INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    agent TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX session_of_user ON session (user_id);

CREATE TABLE setting (
    user_id INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (user_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_day (
    user_id INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    day TEXT NOT NULL,
    num_requests INTEGER NOT NULL DEFAULT 0,
    num_prompt INTEGER NOT NULL DEFAULT 0,
    num_new INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_mark (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    pid INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    clean_end_at INTEGER
) STRICT;

INSERT INTO user (id, name, role, created_at)
VALUES (1, 'owner', 'owner', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
"""

_PEOPLE = """
CREATE TABLE invitation (
    token_sha256 BLOB PRIMARY KEY CHECK (length(token_sha256) = 32),
    role TEXT NOT NULL CHECK (role IN ('user', 'guest')),
    note TEXT NOT NULL,
    num_left INTEGER NOT NULL CHECK (num_left >= 0),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_key (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    hint TEXT NOT NULL,           -- its last characters, to tell keys apart
    scopes TEXT NOT NULL,         -- JSON: a list of words
    key_sha256 BLOB NOT NULL UNIQUE CHECK (length(key_sha256) = 32),
    created_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT;
CREATE INDEX api_key_of_user ON api_key (user_id);
"""

_CONVERSATIONS = """
CREATE TABLE conversation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    user_id INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    title TEXT NOT NULL DEFAULT '',
    system_prompt TEXT NOT NULL DEFAULT '',
    active_leaf_id INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    archived_at INTEGER,
    trashed_at INTEGER,
    choices TEXT NOT NULL DEFAULT '{}',   -- JSON: sampling, language, overflow
    tags TEXT NOT NULL DEFAULT '[]',      -- JSON: an array of words
    UNIQUE (user_id, id),
    FOREIGN KEY (id, active_leaf_id) REFERENCES message (conversation_id, id)
) STRICT;
CREATE INDEX conversation_list ON conversation (user_id, pinned DESC, updated_at DESC, id DESC)
    WHERE trashed_at IS NULL;
CREATE INDEX conversation_trash ON conversation (user_id, trashed_at DESC, id DESC)
    WHERE trashed_at IS NOT NULL;

CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL,
    conversation_id INTEGER NOT NULL,
    parent_id INTEGER,
    role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
    status TEXT NOT NULL CHECK (status IN
        ('streaming', 'done', 'stopped', 'interrupted', 'blocked', 'cut', 'error')),
    content TEXT NOT NULL DEFAULT '',
    error_code TEXT NOT NULL DEFAULT '',
    client_key TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    removed_at INTEGER,           -- with what stands under it; restored by the same time
    UNIQUE (conversation_id, id),
    UNIQUE (conversation_id, client_key),
    FOREIGN KEY (user_id, conversation_id) REFERENCES conversation (user_id, id)
        ON DELETE CASCADE,
    FOREIGN KEY (conversation_id, parent_id) REFERENCES message (conversation_id, id)
) STRICT;
CREATE INDEX message_tree ON message (conversation_id, parent_id, id);
CREATE INDEX message_owner ON message (user_id, conversation_id);
CREATE INDEX message_streaming ON message (id) WHERE status = 'streaming';

CREATE TABLE message_chunk (
    message_id INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (message_id, seq)
) STRICT, WITHOUT ROWID;
"""

_RECORDS = """
CREATE TABLE model (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    UNIQUE (name, fingerprint)
) STRICT;

CREATE TABLE generation (
    id INTEGER PRIMARY KEY,
    message_id INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    model_id INTEGER NOT NULL REFERENCES model (id),
    device TEXT NOT NULL,
    precision TEXT NOT NULL,
    sampling TEXT NOT NULL,       -- JSON
    seed TEXT NOT NULL,           -- decimal: seeds go up to 2**64 - 1
    num_prompt INTEGER NOT NULL,
    num_reused INTEGER NOT NULL,
    num_new INTEGER NOT NULL,
    num_left_out INTEGER NOT NULL,
    queue_seconds REAL NOT NULL,
    first_token_seconds REAL NOT NULL,
    total_seconds REAL NOT NULL,
    tokens_per_second REAL NOT NULL,
    finish_reason TEXT NOT NULL,
    error_code TEXT NOT NULL,
    from_char INTEGER NOT NULL,
    token_ids BLOB NOT NULL,      -- zlib over unsigned 32-bit little-endian
    at INTEGER NOT NULL,
    system_prompt TEXT NOT NULL,
    num_given INTEGER NOT NULL,   -- of token_ids, those taken over from another version
    memory_bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX generation_of_message ON generation (message_id);

CREATE TABLE verdict (
    id INTEGER PRIMARY KEY,
    message_id INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    stage TEXT NOT NULL CHECK (stage IN ('prompt', 'partial', 'final', 'code', 'document')),
    guard TEXT NOT NULL,
    guard_version TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('allow', 'log', 'warn', 'block', 'unchecked')),
    score REAL NOT NULL,
    category TEXT NOT NULL,
    threshold REAL NOT NULL,
    scores TEXT NOT NULL,         -- JSON: category key to probability
    policy_version TEXT NOT NULL,
    reason TEXT NOT NULL,
    upto_char INTEGER NOT NULL,
    seconds REAL NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX verdict_of_message ON verdict (message_id, stage);

CREATE TRIGGER reply_done_only_when_judged
BEFORE UPDATE OF status ON message
WHEN new.role = 'assistant' AND new.status = 'done' AND coalesce((
    SELECT action FROM verdict WHERE message_id = new.id AND stage = 'final'
    ORDER BY id DESC LIMIT 1), 'block') = 'block'
BEGIN SELECT RAISE(ABORT, 'a reply is done only with a final verdict that does not block'); END;

CREATE TRIGGER reply_not_done_at_birth
BEFORE INSERT ON message WHEN new.role = 'assistant' AND new.status = 'done'
BEGIN SELECT RAISE(ABORT, 'a reply is done only with a final verdict that does not block'); END;
"""

# A line of the safety log holds no text and outlives the message that it names: no foreign key.
_SAFETY = """
CREATE TABLE safety_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('prompt', 'partial', 'final', 'code', 'document')),
    guard TEXT NOT NULL,
    guard_version TEXT NOT NULL,
    policy_version TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('allow', 'log', 'warn', 'block', 'unchecked')),
    outcome TEXT NOT NULL CHECK (outcome IN ('shown', 'withheld', 'overridden', 'appealed')),
    category TEXT NOT NULL,
    score REAL NOT NULL,
    threshold REAL NOT NULL,
    unsafe REAL NOT NULL,         -- P(unsafe) as the guard gave it
    scores TEXT NOT NULL,         -- JSON: category key to probability
    reason TEXT NOT NULL,
    upto_char INTEGER NOT NULL,
    seconds REAL NOT NULL,
    digest TEXT NOT NULL          -- keyed hash of the judged text
) STRICT;
CREATE INDEX safety_event_owner ON safety_event (user_id, id);
CREATE TRIGGER safety_event_keeps BEFORE DELETE ON safety_event
BEGIN SELECT RAISE(ABORT, 'the safety log is append-only'); END;
CREATE TRIGGER safety_event_stays BEFORE UPDATE ON safety_event
BEGIN SELECT RAISE(ABORT, 'the safety log is append-only'); END;

CREATE TABLE withheld (
    message_id INTEGER PRIMARY KEY REFERENCES message (id) ON DELETE CASCADE,
    text TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
"""

# A degree runs from 1 (negligibly better, or unsure) to 4 (significantly better), negative where
# the first answer is the better one.
_OPINIONS = """
CREATE TABLE saved (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('prompt', 'persona', 'sampling')),
    use_case TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (user_id, kind, name)
) STRICT;

CREATE TABLE feedback (
    message_id INTEGER PRIMARY KEY REFERENCES message (id) ON DELETE CASCADE,
    thumb INTEGER NOT NULL CHECK (thumb IN (-1, 0, 1)),
    note TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

CREATE TABLE comparison (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL,
    conversation_id INTEGER NOT NULL,
    prompt_id INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    first_id INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    second_id INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    blind INTEGER NOT NULL CHECK (blind IN (0, 1)),
    helpfulness INTEGER CHECK (helpfulness BETWEEN -4 AND 4 AND helpfulness <> 0),
    safety INTEGER CHECK (safety BETWEEN -4 AND 4 AND safety <> 0),
    note TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (first_id, second_id),
    FOREIGN KEY (user_id, conversation_id) REFERENCES conversation (user_id, id)
        ON DELETE CASCADE
) STRICT;
CREATE INDEX comparison_owner ON comparison (user_id, conversation_id);
CREATE INDEX comparison_second ON comparison (second_id);
CREATE INDEX comparison_prompt ON comparison (prompt_id);
"""

# Prefix indexes serve search as you type: without them the worst two letters cost 73 ms of CPU
# in 200,000 messages, with them 1 ms, for an index 2.4 times the size.
_SEARCH = """
CREATE TABLE search_entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- ascending in time of writing: newest first
    user_id INTEGER NOT NULL,
    conversation_id INTEGER NOT NULL,
    message_id INTEGER,                     -- NULL: the conversation's title
    body TEXT NOT NULL,
    scope TEXT NOT NULL GENERATED ALWAYS AS ('u' || user_id) VIRTUAL,
    at INTEGER NOT NULL,
    FOREIGN KEY (user_id, conversation_id) REFERENCES conversation (user_id, id)
        ON DELETE CASCADE,
    FOREIGN KEY (message_id) REFERENCES message (id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX search_entry_message ON search_entry (message_id)
    WHERE message_id IS NOT NULL;
CREATE UNIQUE INDEX search_entry_title ON search_entry (conversation_id)
    WHERE message_id IS NULL;
CREATE INDEX search_entry_owner ON search_entry (user_id, conversation_id);

CREATE VIRTUAL TABLE search_index USING fts5 (
    body, scope, content = 'search_entry', content_rowid = 'id',
    tokenize = 'unicode61 remove_diacritics 2',
    prefix = '2 3'
);
CREATE TRIGGER search_entry_added AFTER INSERT ON search_entry BEGIN
    INSERT INTO search_index (rowid, body, scope) VALUES (new.id, new.body, new.scope);
END;
CREATE TRIGGER search_entry_removed AFTER DELETE ON search_entry BEGIN
    INSERT INTO search_index (search_index, rowid, body, scope)
    VALUES ('delete', old.id, old.body, old.scope);
END;
CREATE TRIGGER search_entry_fixed BEFORE UPDATE ON search_entry
BEGIN SELECT RAISE(ABORT, 'a search entry is replaced, never changed'); END;
"""

_AUDIT = """
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor INTEGER,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_time ON audit (at);
CREATE TRIGGER audit_keeps BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
"""

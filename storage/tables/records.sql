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
    at INTEGER NOT NULL,
    blocks TEXT NOT NULL          -- JSON: what the code checks said of each block; '' without
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

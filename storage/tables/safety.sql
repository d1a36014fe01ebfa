-- A line of the safety log holds no text and outlives the message that it names: no foreign key.

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

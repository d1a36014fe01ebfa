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

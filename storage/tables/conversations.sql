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

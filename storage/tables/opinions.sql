-- A degree runs from 1 (negligibly better, or unsure) to 4 (significantly better), negative where
-- the first answer is the better one.

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

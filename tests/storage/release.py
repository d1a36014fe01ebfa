"""Keep a database of the newest schema, before a release: `python -m tests.storage.release`.

Every later version must be able to open it, see test_schema.py. It is written by the oldest SQLite
at hand, the interpreter's.
"""

import gzip
import sys
import tempfile
from pathlib import Path

RELEASED = Path(__file__).parent / "released"
PROMPT, REPLY = "What is a llama? 美洲驼", "An animal."


def write() -> Path:
    from storage import schema
    from storage.folder import DATABASE
    from storage.records import OWNER_ID
    from tests.storage import make

    with tempfile.TemporaryDirectory() as place:
        store = make.open_store(Path(place))
        make.turn(store, store.create_conversation(OWNER_ID).key, PROMPT, REPLY)
        store.set_setting(OWNER_ID, "theme", "dark")
        store.record(OWNER_ID, "release")
        store.close()
        data = (Path(place) / DATABASE).read_bytes()
    RELEASED.mkdir(exist_ok=True)
    path = RELEASED / f"{schema.migrations._migrations[-1].name}.db.gz"
    path.write_bytes(gzip.compress(data, mtime=0))
    return path


if __name__ == "__main__":
    sys.modules["pysqlite3"] = None  # type: ignore[assignment]
    print(write())

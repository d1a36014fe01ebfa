"""The export loses nothing, and the commands say what they did."""

import io
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from storage.__main__ import main
from storage.folder import BACKUPS, DATABASE
from storage.records import OWNER_ID, Generation
from storage.store import Store
from tests.storage import make


def _tree(store: Store) -> str:
    key = store.create_conversation(OWNER_ID, system_prompt="Be brief.\n").key
    one = make.turn(store, key, 'NUL \x00 "quotes" 学习 🦙 \u2028', "first")
    make.turn(store, key, "two", "second", parent_id=one.reply.id, status="cut")
    again = store.begin_reply(OWNER_ID, key, prompt_id=one.prompt.id)
    make.finish(store, again.reply.id, "better", status="stopped")
    store.add_verdict(one.prompt.id, make.BLOCK)
    make.turn(store, key, "other root", None)
    store.pin(OWNER_ID, key, True)
    return key


def _exported(store: Store) -> dict[str, Any]:
    out = io.StringIO()
    store.export(out)
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


def test_the_export_holds_every_field_of_every_message(store: Store) -> None:
    key = _tree(store)
    trashed = store.create_conversation(OWNER_ID, title="trashed").key
    store.trash(OWNER_ID, trashed)
    document = _exported(store)
    assert (document["format"], document["version"]) == ("corral-conversations", 1)
    first, second = document["conversations"]
    found = store.conversation(OWNER_ID, key)
    assert first["key"] == key
    assert first["system_prompt"] == "Be brief.\n"
    assert first["pinned"] is True
    assert first["title"] == found.title
    assert second["trashed_at"] is not None
    assert second["messages"] == []
    by_number = {message["id"]: message for message in first["messages"]}
    assert list(by_number) == [1, 2, 3, 4, 5, 6, 7]
    assert first["active_leaf"] == 7
    assert found.active_leaf_id is not None
    ids = sorted(
        store._writer.call(lambda db: [row[0] for row in db.execute("SELECT id FROM message")])
    )
    for number, message_id in enumerate(ids, 1):
        record, written = store.message(OWNER_ID, key, message_id), by_number[number]
        parent = written["parent"]
        assert (None if parent is None else ids[parent - 1]) == record.parent_id
        for name in ("role", "status", "content", "error_code", "created_at", "updated_at"):
            assert written[name] == getattr(record, name)
        assert written["verdicts"] == json.loads(json.dumps([asdict(v) for v in record.verdicts]))
        generations = [
            Generation(**{**g, "token_ids": tuple(g["token_ids"])}) for g in written["generations"]
        ]
        assert tuple(generations) == record.generations


def test_the_same_tree_gives_the_same_document_in_another_database(
    store: Store, tmp_path: Path
) -> None:
    other = make.open_store(tmp_path / "other")
    make.turn(other, other.create_conversation(OWNER_ID).key, "shifts the ids", "x")
    one, two = _exported_tree(store), _exported_tree(other)
    assert one == two


def _exported_tree(store: Store) -> object:
    key = _tree(store)
    (tree,) = [c for c in _exported(store)["conversations"] if c["key"] == key]
    text = json.dumps(tree)
    for name in ("created_at", "updated_at", "at"):
        text = _without_times(text, name)
    return text.replace(key, "KEY")


def _without_times(text: str, name: str) -> str:
    import re

    return re.sub(rf'"{name}": \d+', f'"{name}": 0', text)


@pytest.mark.parametrize("running", [False, True])
def test_the_commands(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], running: bool
) -> None:
    store = make.open_store(folder)
    key = _tree(store)
    make.flush(store)
    if not running:
        store.close()
    assert main(["check", str(folder)]) == 0
    checked = capsys.readouterr()
    assert checked.out == "ok\n"
    assert "7 message" in checked.err
    assert main(["backup", str(folder / DATABASE), str(tmp_path / "copies")]) == 0
    copy = Path(capsys.readouterr().out.strip())
    assert copy.parent == tmp_path / "copies"
    assert main(["check", str(copy)]) == 0
    capsys.readouterr()
    status = main(["restore", str(copy), str(folder)])
    said = capsys.readouterr()
    assert (status, "Another Corral" in said.err) == ((1, True) if running else (0, False))
    if not running:
        store = make.open_store(folder)
    assert make.contents(store, key)[0] == "other root"


def test_export_as_a_command(folder: Path, guarded_environment: dict[str, str]) -> None:
    store = make.open_store(folder)
    _tree(store)
    store.close()
    done = subprocess.run(
        [sys.executable, "-m", "storage", "export", str(folder)],
        capture_output=True,
        env={**guarded_environment, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert json.loads(done.stdout.decode())["conversations"][0]["messages"][0][
        "content"
    ].startswith("NUL \x00")
    assert done.stderr.decode().strip() == "1 conversations"


def test_errors_of_the_commands_are_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path)]) == 1
    assert "There is no database" in capsys.readouterr().err
    noise = tmp_path / "noise.db"
    noise.write_bytes(b"not a database " * 100)
    for command in (["check", str(noise)], ["export", str(noise)]):
        assert main(command) == 1
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert "damaged" in said.err
    store = make.open_store(folder)
    store._writer.call(lambda db: db.execute("DROP TRIGGER audit_stays"))
    store.record(OWNER_ID, "x")
    store._writer.call(lambda db: db.execute("UPDATE audit SET action = 'y'"))
    store.close()
    assert main(["check", str(folder)]) == 1
    assert "audit was changed" in capsys.readouterr().out
    assert not (folder / BACKUPS).exists()

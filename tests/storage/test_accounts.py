"""Users, sessions, settings and usage."""

import hashlib
import time

import pytest

from storage.accounts import Usage
from storage.records import OWNER_ID, Conflict, NotFound, User
from storage.store import Store
from tests.storage import make

TOKEN = hashlib.sha256(b"token").digest()


def _in_a_minute() -> int:
    return time.time_ns() // 1_000_000 + 60_000


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def test_the_owner_is_user_one(store: Store) -> None:
    assert store.user(OWNER_ID) == User(1, "owner", "owner")
    for absent in (0, 2, -1, 10**30):
        with pytest.raises(NotFound):
            store.user(absent)


def test_a_session_lasts_until_it_is_revoked(store: Store) -> None:
    assert store.session_user(TOKEN) is None
    store.add_session(TOKEN, OWNER_ID, _in_a_minute(), "Firefox \ud800")
    assert store.session_user(TOKEN) == store.user(OWNER_ID)
    store.revoke_session(TOKEN)
    assert store.session_user(TOKEN) is None
    store.add_session(TOKEN, OWNER_ID, _in_a_minute(), "")
    store.revoke_sessions(OWNER_ID)
    assert store.session_user(TOKEN) is None


def test_a_session_ends(store: Store) -> None:
    store.add_session(TOKEN, OWNER_ID, _in_a_minute() - 60_001, "")
    assert store.session_user(TOKEN) is None


def test_a_session_that_was_not_seen_for_long_ends(store: Store) -> None:
    store.add_session(TOKEN, OWNER_ID, _in_a_minute(), "")
    hour = 3_600_000
    assert store.session_user(TOKEN, idle_milliseconds=hour) is not None
    store._writer.call(lambda db: db.execute("UPDATE session SET seen_at = seen_at - ?", (hour,)))
    assert store.session_user(TOKEN, idle_milliseconds=hour) is None


def test_a_session_needs_a_user_and_a_whole_hash(store: Store) -> None:
    with pytest.raises(NotFound):
        store.add_session(TOKEN, 7, _in_a_minute(), "")
    with pytest.raises(Conflict):
        store.add_session(TOKEN[:31], OWNER_ID, _in_a_minute(), "")


def test_a_disabled_user_is_signed_out(store: Store) -> None:
    ann = make.add_user(store, "ann")
    store.add_session(TOKEN, ann, _in_a_minute(), "")
    store._writer.call(lambda db: db.execute("UPDATE user SET disabled_at = 1 WHERE id = 2"))
    assert store.session_user(TOKEN) is None
    with pytest.raises(NotFound):
        store.user(ann)


def test_when_a_session_was_seen_is_kept_now_and_then(store: Store) -> None:
    store.add_session(TOKEN, OWNER_ID, _in_a_minute(), "")
    store._writer.call(lambda db: db.execute("UPDATE session SET seen_at = 5"))
    store.session_user(TOKEN)
    (seen,) = store._writer.call(lambda db: db.execute("SELECT seen_at FROM session").fetchone())
    assert seen > 5


def test_settings(store: Store) -> None:
    assert store.setting(OWNER_ID, "theme") is None
    store.set_setting(OWNER_ID, "theme", "dark")
    store.set_setting(OWNER_ID, "theme", "light")
    store.set_setting(OWNER_ID, "note", "学\x00")
    assert store.setting(OWNER_ID, "theme") == "light"
    assert store.settings(OWNER_ID) == {"theme": "light", "note": "学\x00"}
    store.set_setting(OWNER_ID, "theme", None)
    assert store.setting(OWNER_ID, "theme") is None
    with pytest.raises(NotFound):
        store.set_setting(9, "theme", "dark")


def test_usage_adds_up_by_day(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    days = {_today()}
    for _ in range(3):
        make.turn(store, key, "Hello", "Hi")
    found = [store.usage(OWNER_ID, day) for day in days | {_today()}]
    assert sum(usage.num_requests for usage in found) == 3
    assert sum(usage.num_prompt for usage in found) == 15
    assert sum(usage.num_new for usage in found) == 9
    assert store.usage(OWNER_ID, "1999-01-01") == Usage("1999-01-01")

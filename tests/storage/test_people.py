"""Accounts, invitations, browsers and keys, as the store keeps them."""

import hashlib

import pytest

from storage.clock import now
from storage.records import OWNER_ID, Conflict, NotFound
from storage.store import Store
from tests.storage import make

HOUR = 3_600_000


def token(word: str) -> bytes:
    return hashlib.sha256(word.encode()).digest()


def invite(
    store: Store, word: str, *, role: str = "user", uses: int = 1, lasts: int = HOUR
) -> None:
    store.people.invite(
        token(word), role=role, note="for a friend", uses=uses, expires_at=now() + lasts
    )


def test_an_invitation_makes_one_account(store: Store) -> None:
    invite(store, "a")
    made = store.people.accept(token("a"), "Anna", "hash")
    assert (made.name, made.role) == ("Anna", "user")
    with pytest.raises(NotFound):
        store.people.accept(token("a"), "Bert", "hash")
    assert store.people.invitations() == []
    found = store.people.password_of("anna")  # names are told apart without regard to case
    assert found is not None and found[0].id == made.id and found[1] == "hash"


def test_a_taken_name_uses_nothing_up(store: Store) -> None:
    invite(store, "a")
    with pytest.raises(Conflict):
        store.people.accept(token("a"), "OWNER", "hash")
    assert store.people.invitations()[0].num_left == 1
    store.people.accept(token("a"), "Anna", "hash")


def test_old_withdrawn_and_unknown_invitations_let_nobody_in(store: Store) -> None:
    invite(store, "old", lasts=-1)
    invite(store, "gone")
    store.people.withdraw(token("gone"))
    for word in ("old", "gone", "never"):
        with pytest.raises(NotFound):
            store.people.accept(token(word), "Anna", "hash")
    assert [person.name for person in store.people.everybody()] == ["owner"]


def test_an_account_needs_a_password_and_a_guest_never_gets_one(store: Store) -> None:
    invite(store, "u")
    invite(store, "g", role="guest", uses=2)
    with pytest.raises(Conflict):
        store.people.accept(token("u"), "Anna", None)
    guest = store.people.accept(token("g"), "Gast", "ignored")
    assert store.people.password_of("Gast") is None
    assert store.people.role(guest.id) == "guest"
    assert store.people.invitation(token("g")).num_left == 1  # type: ignore[union-attr]


def test_a_guest_is_removed_with_every_word_when_the_session_ends(store: Store) -> None:
    invite(store, "g", role="guest", uses=2)
    guest = store.people.accept(token("g"), "Gast", None)
    other = store.people.accept(token("g"), "Other", None)
    for user, word in ((guest, "one"), (other, "two")):
        store.add_session(token(word), user.id, now() + HOUR)
    key = store.create_conversation(guest.id).key
    turn = store.begin_turn(guest.id, key, parent_id=None, text="zanzibar", client_key="1")
    store.finish_reply(turn.reply.id, status="stopped", generation=None)
    assert store.people.guests_gone(idle_milliseconds=HOUR) == []
    store.revoke_session(token("one"))
    assert store.people.guests_gone(idle_milliseconds=HOUR) == [guest.id]
    store.remove_person(guest.id)
    assert store.people.guests_gone(idle_milliseconds=HOUR) == []
    with pytest.raises(NotFound):
        store.user(guest.id)
    assert "zanzibar" not in str(store._writer.call(make.rows))
    files = [path.read_bytes() for path in store.folder.glob("*") if path.is_file()]
    assert not any(b"zanzibar" in content for content in files)


def test_disabling_signs_out_and_locks_out(store: Store) -> None:
    invite(store, "u")
    anna = store.people.accept(token("u"), "Anna", "hash")
    store.add_session(token("s"), anna.id, now() + HOUR)
    store.people.add_key(anna.id, key_sha256=token("k"), name="k", hint="abcd", scopes=["chat"])
    store.people.set_disabled(anna.id, True)
    assert store.session_user(token("s"), idle_milliseconds=HOUR) is None
    assert store.people.password_of("Anna") is None
    assert store.people.find_key(token("k")) is None
    store.people.set_disabled(anna.id, False)
    assert store.people.find_key(token("k")) is not None


def test_who_is_locked_out_can_still_be_removed(store: Store) -> None:
    invite(store, "u")
    anna = store.people.accept(token("u"), "Anna", "hash")
    key = store.create_conversation(anna.id).key
    store.begin_turn(anna.id, key, parent_id=None, text="zanzibar", client_key="1")
    store.people.set_disabled(anna.id, True)
    store.remove_person(anna.id)
    assert [each.id for each in store.people.everybody()] == [OWNER_ID]
    assert "zanzibar" not in str(store._writer.call(make.rows))


@pytest.mark.parametrize("change", ["remove", "disable"])
def test_the_owner_stays(store: Store, change: str) -> None:
    with pytest.raises(Conflict):
        if change == "remove":
            store.people.remove(OWNER_ID)
        else:
            store.people.set_disabled(OWNER_ID, True)


def test_keys_and_sessions_are_ended_by_their_own_account_alone(store: Store) -> None:
    invite(store, "u")
    anna = store.people.accept(token("u"), "Anna", "hash")
    key = store.people.add_key(
        OWNER_ID, key_sha256=token("k"), name="mine", hint="abcd", scopes=["chat"]
    )
    store.add_session(token("s"), OWNER_ID, now() + HOUR, "Firefox")
    with pytest.raises(NotFound):
        store.people.revoke_key(anna.id, key)
    store.people.end_session(anna.id, token("s"))
    assert [view.id for view in store.people.sessions(OWNER_ID, idle_milliseconds=HOUR)] == [
        token("s").hex()
    ]
    assert store.people.sessions(anna.id, idle_milliseconds=HOUR) == []
    store.people.mark_used(key)
    assert store.people.keys(OWNER_ID)[0].used_at is not None
    store.people.revoke_key(OWNER_ID, key)
    assert store.people.find_key(token("k")) is None
    store.people.end_session(OWNER_ID, token("s"))
    assert store.people.sessions(OWNER_ID, idle_milliseconds=HOUR) == []


def test_the_quota_counts_prompt_and_reply(store: Store) -> None:
    assert store.people.tokens_left(OWNER_ID) is None
    store.people.set_quota(OWNER_ID, 100)
    store.people.add_usage(OWNER_ID, num_prompt=30, num_new=40)
    assert store.people.tokens_left(OWNER_ID) == 30
    store.people.add_usage(OWNER_ID, num_prompt=30, num_new=40)
    assert store.people.tokens_left(OWNER_ID) == 0
    assert store.people.everybody()[0].num_tokens_today == 140


def test_everything_is_in_the_audit_and_no_name_is(store: Store) -> None:
    invite(store, "u")
    anna = store.people.accept(token("u"), "Anna", "hash")
    store.people.set_password(anna.id, "other")
    store.people.set_disabled(anna.id, True)
    store.people.remove(anna.id)
    entries = store.audit()
    assert {"invite", "user_new", "password", "user_disable", "user_remove"} <= {
        entry.action for entry in entries
    }
    assert "Anna" not in str(entries)
    assert store.audit_intact()

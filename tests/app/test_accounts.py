"""Tokens work once, expire, and are never kept in the clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import accounts as module
from app.accounts import LAUNCH_SECONDS, MAX_LAUNCH_TOKENS, Accounts, LaunchTokens, digest
from storage.store import Store


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_launch_token_works_once() -> None:
    tokens = LaunchTokens()
    token, other = tokens.issue(), tokens.issue()
    assert token != other
    assert len(token) >= 43
    assert not tokens.redeem(token[:-1])
    assert not tokens.redeem("")
    assert not tokens.redeem(token + "x" * 10_000)
    assert not tokens.redeem("\ud800")
    assert tokens.redeem(token)
    assert not tokens.redeem(token)
    assert tokens.redeem(other)


def test_a_launch_token_expires() -> None:
    clock = Clock()
    tokens = LaunchTokens(clock)
    early, late = tokens.issue(), tokens.issue()
    clock.now += LAUNCH_SECONDS - 1
    assert tokens.redeem(early)
    clock.now += 2
    assert not tokens.redeem(late)


def test_only_so_many_launch_tokens_wait() -> None:
    tokens = LaunchTokens()
    issued = [tokens.issue() for _ in range(MAX_LAUNCH_TOKENS + 1)]
    assert not tokens.redeem(issued[0])
    assert tokens.redeem(issued[1])
    assert tokens.redeem(issued[-1])


def test_entering_makes_a_session_that_outlives_the_process(store: Store) -> None:
    accounts = Accounts(store, session_seconds=3600, idle_seconds=600)
    assert accounts.enter("wrong") is None
    token = accounts.enter(accounts.launch.issue(), "Browser/1")
    assert token is not None
    visitor = accounts.visitor(token)
    assert visitor is not None
    assert visitor.user_id == 1
    later = Accounts(store, session_seconds=3600, idle_seconds=600)
    assert later.visitor(token) == visitor
    assert later.visitor(token + "x") is None
    assert later.visitor("") is None


def test_only_the_digest_is_kept(store: Store, tmp_path: Path) -> None:
    accounts = Accounts(store, session_seconds=3600, idle_seconds=600)
    launch = accounts.launch.issue()
    token = accounts.enter(launch)
    assert token is not None
    store.close()
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and "db" in p.name)
    assert digest(token) in kept
    assert token.encode() not in kept
    assert launch.encode() not in kept


def test_a_session_ends_after_its_absolute_time(store: Store) -> None:
    accounts = Accounts(store, session_seconds=0.0, idle_seconds=600)
    token = accounts.enter(accounts.launch.issue())
    assert token is not None
    assert accounts.visitor(token) is None


def test_leaving_ends_a_session_at_once(store: Store) -> None:
    accounts = Accounts(store, session_seconds=3600, idle_seconds=600)
    token = accounts.enter(accounts.launch.issue())
    assert token is not None
    visitor = accounts.visitor(token)
    assert visitor is not None
    assert accounts.remembered(token) == visitor
    accounts.leave(visitor.session)
    assert accounts.remembered(token) is None
    assert accounts.visitor(token) is None


def test_what_is_remembered_is_limited(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    accounts = Accounts(store, session_seconds=3600, idle_seconds=600)
    tokens = [accounts.enter(accounts.launch.issue()) or "" for _ in range(3)]
    for token in tokens:
        assert accounts.visitor(token) is not None
    assert [accounts.remembered(token) is not None for token in tokens] == [False, True, True]


def test_the_secret_of_a_run() -> None:
    class Nothing:
        def add_session(
            self, token_sha256: bytes, user_id: int, expires_at: int, agent: str = ""
        ) -> None: ...

        def session_user(self, token_sha256: bytes, *, idle_milliseconds: int) -> None: ...

        def revoke_session(self, token_sha256: bytes) -> None: ...

    one, two = (
        Accounts(Nothing(), session_seconds=1, idle_seconds=600),
        Accounts(Nothing(), session_seconds=1, idle_seconds=600),
    )
    assert one.knows_secret(one.secret)
    assert not one.knows_secret(two.secret)
    assert not one.knows_secret("")

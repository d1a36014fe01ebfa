"""Turns that run on the server: started once, followed by anybody, stopped, queued, kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Event

import pytest

from app.job import Job, JobView
from app.lines import MAX_QUEUED_PER_USER
from app.parts import Part
from app.requests import Again, Continue, JobRefused, Send
from engine.base import Engine
from storage.store import Store
from tests.app.fakes import Bench, TellingEngine, ended
from tests.waiting import until

REPLY = "One two three four. " * 20


@pytest.fixture
def held(store: Store) -> Iterator[Bench]:
    """A bench whose engine says nothing until `hold` is set."""
    bench = Bench(store, TellingEngine([REPLY], hold=Event()))
    yield bench
    bench.jobs.close()


def followed(job: Job) -> list[JobView]:
    async def follow() -> list[JobView]:
        return [view async for view in job.follow(lambda: 500.0)]

    return asyncio.run(follow())


def send(text: str, key: str | None = None, parent_id: int | None = None) -> Send:
    return Send(key, parent_id, text, client_key=f"{key}{parent_id}{text}")


def release(bench: Bench) -> None:
    assert isinstance(bench.engine, TellingEngine) and bench.engine.hold is not None
    bench.engine.hold.set()


def test_a_follower_sees_the_reply_grow_and_end(store: Store) -> None:
    bench = Bench(store, TellingEngine([REPLY]))
    views = followed(bench.jobs.start(1, send("Hi")))
    assert all(
        later.text.startswith(view.text) for view, later in zip(views, views[1:], strict=False)
    )
    assert views[-1].phase == "ended" and views[-1].status == "done"
    assert views[-1].text == REPLY
    assert views[-1].released_at >= views[-1].emitted_at > 0


def test_who_comes_late_sees_the_same_and_who_leaves_stops_nothing(held: Bench) -> None:
    job = held.jobs.start(1, send("Hi"))

    async def leave_at_once() -> None:
        async for _ in job.follow():
            break

    asyncio.run(leave_at_once())
    assert held.jobs.running(1, job.key) is job
    release(held)
    assert ended(job).text == REPLY
    assert followed(job)[-1].text == REPLY
    assert held.jobs.running(1, job.key) is None
    assert held.store.message(1, job.key, job.reply_id).content == REPLY


def test_stop_ends_the_turn_and_keeps_its_text(held: Bench) -> None:
    job = held.jobs.start(1, send("Hi"))
    assert held.jobs.running_keys(1) == {job.key}
    assert held.jobs.stop(1, job.key)
    assert ended(job).status == "stopped"
    assert not held.jobs.stop(1, job.key)


def test_another_user_sees_and_stops_nothing(held: Bench) -> None:
    job = held.jobs.start(1, send("Hi"))
    assert held.jobs.running(2, job.key) is None
    assert not held.jobs.stop(2, job.key)
    assert held.jobs.running_keys(2) == frozenset()


@pytest.mark.parametrize(
    ("text", "code"), [("", "empty"), (" \n\t", "empty"), ("x" * 2_000_001, "too_long")]
)
def test_what_cannot_be_sent_is_refused_before_it_is_stored(
    store: Store, text: str, code: str
) -> None:
    bench = Bench(store)
    with pytest.raises(JobRefused) as refused:
        bench.jobs.start(1, send(text))
    assert refused.value.code == code
    assert store.conversations(1) == []


def test_the_same_click_twice_is_one_turn(held: Bench) -> None:
    click = send("Hi")
    assert held.jobs.start(1, click) is held.jobs.start(1, click)
    assert len(held.store.conversations(1)) == 1


def test_a_click_that_was_answered_long_ago_is_not_answered_again(store: Store) -> None:
    bench = Bench(store)
    key = store.create_conversation(1).key
    click = send("Hi", key)
    ended(bench.jobs.start(1, click))
    assert bench.jobs.start(1, click).view().phase == "ended"
    assert isinstance(bench.engine, TellingEngine) and len(bench.engine.prompts) == 1


def test_one_turn_at_a_time_in_a_conversation(held: Bench) -> None:
    job = held.jobs.start(1, send("Hi"))
    with pytest.raises(JobRefused) as refused:
        held.jobs.start(1, send("And?", job.key, job.reply_id))
    assert refused.value.code == "running"


def test_turns_of_one_user_queue_and_then_run(held: Bench) -> None:
    jobs = [held.jobs.start(1, send(f"Question {n}")) for n in range(1 + MAX_QUEUED_PER_USER)]
    assert [job.view().place_in_queue for job in jobs] == [0, 1, 2]
    with pytest.raises(JobRefused) as refused:
        held.jobs.start(1, send("One more"))
    assert refused.value.code == "queue_full"
    release(held)
    assert [ended(job).status for job in jobs] == ["done"] * 3


def test_again_makes_another_version(store: Store) -> None:
    bench = Bench(store, TellingEngine(["First answer.", "Second answer."]))
    first = bench.jobs.start(1, send("Hi"))
    ended(first)
    second = bench.jobs.start(1, Again(first.key, first.prompt_id))
    assert ended(second).text == "Second answer."
    reply = store.message(1, first.key, second.reply_id)
    assert (reply.version, reply.num_versions) == (2, 2)
    assert store.path(1, first.key)[-1].id == second.reply_id


def test_continue_begins_with_what_is_there(store: Store) -> None:
    bench = Bench(store, TellingEngine(["One two.", " Three."]))
    first = bench.jobs.start(1, send("Count"))
    ended(first)
    store.set_status(first.reply_id, "stopped")
    job = bench.jobs.start(1, Continue(first.key, first.reply_id))
    assert followed(job)[-1].text == "One two. Three."


def test_closing_keeps_what_was_written_and_calls_it_interrupted(store: Store) -> None:
    engine = TellingEngine([REPLY], hold=Event())
    bench = Bench(store, engine)
    job = bench.jobs.start(1, send("Hi"))
    queued = bench.jobs.start(1, send("Later"))
    bench.jobs.close()
    assert store.message(1, job.key, job.reply_id).status == "interrupted"
    assert ended(queued).status == "interrupted"
    with pytest.raises(JobRefused) as refused:
        bench.jobs.start(1, send("Too late"))
    assert refused.value.code == "closed"


def test_a_turn_that_waits_for_the_engine_says_so(store: Store) -> None:
    part: Part[Engine] = Part("engine", lambda: TellingEngine([REPLY]))
    bench = Bench(store, engine_part=part)
    job = bench.jobs.start(1, send("Hi"))
    until(lambda: job.view().waiting_for == "engine")
    part.start()
    assert ended(job).text == REPLY


def test_alternatives_are_written_together_and_stopped_together(held: Bench, store: Store) -> None:
    assert isinstance(held.engine, TellingEngine)
    engine = held.engine
    release(held)
    first = held.jobs.start(1, send("Hi"))
    ended(first)
    engine.hold = Event()
    job = held.jobs.start(1, Again(first.key, first.prompt_id, count=3, beginning="So, "))
    jobs = (*job.beside, job)
    until(lambda: len(engine.prompts) == 4)  # all three are being written
    held.engine.hold.set()
    assert [ended(one).text for one in jobs] == ["So, " + REPLY] * 3
    assert store.path(1, first.key)[-1].num_versions == 4
    assert store.path(1, first.key)[-1].id == job.reply_id
    held.engine.hold = Event()
    more = held.jobs.start(1, Again(first.key, first.prompt_id, count=2))
    held.jobs.stop(1, first.key)
    assert [ended(one).status for one in (*more.beside, more)] == ["stopped"] * 2

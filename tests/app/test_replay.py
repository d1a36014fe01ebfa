"""A stored answer computed again, looked at token by token, branched; with a real tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from threading import Event

import pytest

from app.replay import Replays, as_read, compared, read_sampling
from app.task import Task
from app.token_view import NotRetraceable, TokenViews
from app.turn import take_turn
from engine.base import Prompt, Sampling
from engine.errors import EngineClosed, SamplingInvalid
from engine.local import LocalEngine
from safety.policy import DEFAULT_POLICY
from storage.records import MessageRecord
from storage.store import Store
from tests.app.fakes import Bench, TellingEngine
from tests.engine.answers import tiny_engine
from tests.waiting import until

SAMPLING = Sampling(temperature=0.9, seed=11, max_new_tokens=24)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    with tiny_engine(tmp_path_factory.mktemp("models") / "tiny-chat") as engine:
        yield engine


@pytest.fixture
def bench(store: Store, engine: LocalEngine) -> Bench:
    return Bench(store, engine, sampling=lambda: SAMPLING)


def before(bench: Bench, reply: MessageRecord) -> list[MessageRecord]:
    return bench.store.path(1, bench.key, leaf_id=reply.parent_id)


def test_the_same_tokens_come_again_also_after_earlier_turns(
    bench: Bench, engine: LocalEngine
) -> None:
    first = bench.ask("hello there").reply
    second = bench.ask("and again", key=bench.key, parent_id=first.id).reply
    for reply in (first, second):
        found = compared(engine, before(bench, reply), reply, cancel=Event())
        assert (found.state, found.num_same) == ("same", len(reply.generations[-1].token_ids))
        assert reply.generations[-1].memory_bytes > 1 << 20  # a process with torch in it


def test_the_first_token_that_differs_is_named_with_its_margin(
    bench: Bench, engine: LocalEngine
) -> None:
    reply = bench.ask("hello there").reply
    (run,) = reply.generations
    likely = engine.retrace(_prompt_of(bench, reply), num_alternatives=5)[3].alternatives[0][0]
    ids = list(run.token_ids)
    ids[3] = likely if ids[3] != likely else ids[3] + 1
    forged = replace(reply, generations=(replace(run, token_ids=tuple(ids)),))
    found = compared(engine, before(bench, reply), forged, cancel=Event())
    assert (found.state, found.num_same, found.num_all) == ("differs", 3, len(ids))
    assert found.now
    greedy = replace(run, sampling={**run.sampling, "temperature": 0.0})
    found = compared(
        engine, before(bench, reply), replace(reply, generations=(greedy,)), cancel=Event()
    )
    assert found.state == "differs"
    assert found.margin is not None and found.margin > 0


def _prompt_of(bench: Bench, reply: MessageRecord) -> Prompt:
    run = reply.generations[-1]
    messages = as_read(before(bench, reply), run)
    return Prompt(messages=messages, reply_prefix=reply.content, reply_ids=run.token_ids)


def test_another_model_or_an_empty_record_is_said(bench: Bench, engine: LocalEngine) -> None:
    reply = bench.ask("hello there").reply
    run = reply.generations[-1]
    path = before(bench, reply)
    other = replace(reply, generations=(replace(run, fingerprint="another"),))
    assert compared(engine, path, other, cancel=Event()).state == "other_model"
    empty = replace(reply, generations=(replace(run, token_ids=()),))
    assert compared(engine, path, empty, cancel=Event()).state == "nothing"
    changed = replace(reply, generations=(replace(run, system_prompt="Be brief."),))
    found = compared(engine, path, changed, cancel=Event())
    assert found.state == "same" or found.prompt_changed


def test_a_sampling_reads_back_as_it_was_kept(store: Store) -> None:
    kept = Sampling(temperature=0.3, stop=("###",), logit_bias={5: -1.0}, seed=3)
    read = read_sampling(json.loads(json.dumps(asdict(kept))))
    assert read == kept
    for wrong in ({"temperature": "hot"}, {"temperature": 99}, {"top_k": []}):
        with pytest.raises(SamplingInvalid):
            read_sampling(wrong)


def test_replays_run_one_at_a_time_and_tell_what_they_found(
    bench: Bench, engine: LocalEngine
) -> None:
    reply = bench.ask("hello there").reply
    replays = Replays()
    assert replays.of(reply.id) is None
    assert replays.start(engine, before(bench, reply), reply, cancel=Event())
    assert ended(replays, reply.id) == "same"

    class Closed(TellingEngine):
        def stream(self, *args: object, **options: object):  # type: ignore[no-untyped-def,override]
            raise EngineClosed("closed")

        def info(self):  # type: ignore[no-untyped-def]
            return engine.info()

    until(lambda: replays.start(Closed(), before(bench, reply), reply, cancel=Event()))
    assert ended(replays, reply.id) == "failed"


def ended(replays: Replays, reply_id: int) -> str:
    """How the replay of a reply came out."""

    def state() -> str:
        found = replays.of(reply_id)
        return "" if found is None or found.state == "running" else found.state

    return until(state)


def test_tokens_are_the_answer_and_a_branch_goes_on_from_another_one(
    bench: Bench, engine: LocalEngine
) -> None:
    reply = bench.ask("hello there").reply
    views, path = TokenViews(), before(bench, reply)
    tokens = views.tokens(engine, path, reply)
    assert "".join(token.text for token in tokens) == reply.content
    assert all(0 <= token.probability <= 1.0001 and 0 <= token.heat <= 5 for token in tokens)
    place, offered = next(
        (place, good)
        for place in range(2, len(tokens))
        if (good := [a for a in views.alternatives(engine, path, reply, place) if a.possible])
    )
    assert sum(a.chosen for a in views.alternatives(engine, path, reply, place)) == 1
    asked = views.branch(engine, path, reply, key=bench.key, place=place, token_id=offered[0].id)
    turn = bench.store.begin_branch(1, bench.key, reply_id=reply.id, num_chars=asked.num_chars)
    conversation = bench.store.conversation(1, bench.key)
    task = Task(conversation, turn, DEFAULT_POLICY, SAMPLING, begun=asked.begun)
    list(take_turn(task, bench.means, cancel=Event()))
    branch = bench.stored(turn).reply
    kept = "".join(token.text for token in tokens[:place])
    assert branch.content.startswith(kept + offered[0].text)
    (run,) = branch.generations
    assert tuple(run.token_ids[: place + 1]) == asked.begun.ids
    # Nothing but the chosen token itself was read anew: the rest lay in the cache.
    assert run.num_prompt - run.num_reused <= 2
    assert compared(engine, path, branch, cancel=Event()).state == "same"
    assert "".join(t.text for t in views.tokens(engine, path, branch)) == branch.content


def test_what_was_not_offered_cannot_be_chosen(bench: Bench, engine: LocalEngine) -> None:
    reply = bench.ask("hello there").reply
    views, path = TokenViews(), before(bench, reply)
    chosen = reply.generations[-1].token_ids[2]
    for place, token_id in ((2, chosen), (2, 1 << 40), (-1, 5), (10_000, 5)):
        with pytest.raises(NotRetraceable):
            views.branch(engine, path, reply, key=bench.key, place=place, token_id=token_id)


def test_an_engine_or_model_that_cannot_say_so_says_so(bench: Bench, engine: LocalEngine) -> None:
    reply = bench.ask("hello there").reply
    run = reply.generations[-1]
    path = before(bench, reply)
    for told, shown, code in (
        (TellingEngine(), reply, "engine"),
        (engine, replace(reply, generations=(replace(run, fingerprint="x"),)), "other_model"),
        (engine, replace(reply, generations=()), "empty"),
        (engine, replace(reply, content=""), "empty"),
    ):
        with pytest.raises(NotRetraceable) as raised:
            TokenViews().tokens(told, path, shown)
        assert raised.value.code == code


def test_what_the_guard_held_back_is_not_among_the_tokens(
    bench: Bench, engine: LocalEngine
) -> None:
    reply = bench.ask("hello there").reply
    cut = replace(reply, content=reply.content[:5], status="cut")
    tokens = TokenViews().tokens(engine, before(bench, reply), cut)
    assert "".join(token.text for token in tokens) == reply.content[:5]

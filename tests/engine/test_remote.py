"""The engine on another server, against a double that misbehaves in every way that is known."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from threading import Event, Thread

import pytest

from engine.base import Chunk, Prompt, Sampling
from engine.endpoint import Address, is_address, too_long
from engine.errors import (
    CheckpointMissing,
    ContextFull,
    EngineClosed,
    ModelUnsupported,
    PromptEmpty,
    ServerRefused,
    ServerUnreachable,
)
from engine.remote import RemoteEngine
from tests.engine.openai_server import ServerState

SECRET = "key-that-nobody-may-see"
ASKED = Prompt(messages=[{"role": "user", "content": "How are you today?"}])
USUAL = Sampling(max_new_tokens=50, seed=7)


Make = Callable[..., RemoteEngine]


@pytest.fixture
def make(server_address: str) -> Iterator[Make]:
    made: list[RemoteEngine] = []

    def make(name: str = "", key: str = "", max_context: int | None = None) -> RemoteEngine:
        where = Address.parse(f"{server_address}#{name}")
        engine = RemoteEngine(where, key=key, max_context=max_context, retry_seconds=0.01)
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


def read(
    engine: RemoteEngine, prompt: Prompt = ASKED, sampling: Sampling = USUAL
) -> tuple[str, Chunk]:
    chunks = list(engine.stream(prompt, sampling, cancel=Event(), scope="me"))
    return "".join(chunk.text for chunk in chunks), chunks[-1]


def test_a_reply_comes_word_by_word_with_what_it_cost(make: Make, server: ServerState) -> None:
    engine = make()
    chunks = list(engine.stream(ASKED, USUAL, cancel=Event(), scope="me"))
    assert [chunk.text for chunk in chunks] == ["", *server.words, ""]
    assert all(len(chunk.ids) == 1 for chunk in chunks[1:-1])
    cost = chunks[-1].statistics
    assert cost is not None and chunks[-1].finish_reason == "stop"
    assert (cost.num_prompt, cost.num_reused, cost.num_new, cost.seed) == (11, 4, 5, 7)
    assert 0 < cost.first_token_seconds <= cost.total_seconds
    info = engine.info()
    assert (info.model, info.context_length, info.leaves_to) == ("tiny", 512, "")
    assert info.device == engine._address.place


def test_what_is_asked_is_what_was_chosen(make: Make, server: ServerState) -> None:
    sampling = Sampling(
        temperature=0.0,
        top_k=40,
        top_p=0.5,
        min_p=0.0,
        repetition_penalty=1.1,
        presence_penalty=0.25,
        seed=(1 << 40) + 3,
        max_new_tokens=9,
        stop=("###",),
        logit_bias={5: -3.0},
    )
    read(make(), sampling=sampling)
    assert server.requests == [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "How are you today?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 9,
            "temperature": 0.0,
            "top_p": 0.5,
            "seed": 3,
            "stop": ["###"],
            "presence_penalty": 0.25,
            "logit_bias": {"5": -3.0},
            "top_k": 40,
            "min_p": 0.0,
            "repetition_penalty": 1.1,
            "repeat_penalty": 1.1,
        }
    ]


def test_a_length_ending_and_a_server_that_does_not_count(make: Make, server: ServerState) -> None:
    server.finish_reason, server.usage = "length", False
    _, last = read(make())
    assert last.finish_reason == "length"
    assert last.statistics is not None and last.statistics.num_new == 5


@pytest.mark.parametrize("before_first", [True, False])
def test_a_stop_ends_at_once_and_cuts_the_connection(
    make: Make, server: ServerState, before_first: bool
) -> None:
    server.words = ["word "] * 300_000
    server.hold = Event()
    if not before_first:
        server.hold.set()
    cancel = Event()
    stream = make().stream(ASKED, USUAL, cancel=cancel, scope="")
    next(stream)
    if before_first:
        Thread(target=lambda: (time.sleep(0.1), cancel.set())).start()
    else:
        assert next(stream).text == "word "
        server.hold.clear()
        cancel.set()
    rest = list(stream)
    assert rest[-1].finish_reason == "cancelled"
    assert server.left.wait(20)  # the server noticed


def test_dropping_the_iterator_cuts_the_connection_too(make: Make, server: ServerState) -> None:
    server.words = ["word "] * 300_000
    stream = make().stream(ASKED, USUAL, cancel=Event(), scope="")
    next(stream), next(stream)
    server.hold = Event()
    stream.close()  # type: ignore[attr-defined]  # a generator
    assert server.left.wait(20)


def test_before_the_first_token_it_is_tried_again(make: Make, server: ServerState) -> None:
    engine = make()
    server.statuses = [503, 429, 500]
    text, _ = read(engine)
    assert text == "Hello there, friend."
    assert len(server.requests) == 4
    server.statuses = [503] * 10
    with pytest.raises(ServerUnreachable, match=r"cannot answer now \(503\)"):
        read(engine)
    assert len(server.requests) == 8
    server.statuses = []


@pytest.mark.parametrize("fault", ["cut_after", "error_after"])
def test_after_the_first_token_never_and_what_came_is_kept(
    make: Make, server: ServerState, fault: str
) -> None:
    setattr(server, fault, 2)
    seen = ""
    with pytest.raises(ServerUnreachable, match=r"does not answer|broke off"):
        for chunk in make().stream(ASKED, USUAL, cancel=Event(), scope=""):
            seen += chunk.text
    assert seen == "Hello there"
    assert len(server.requests) == 1


def test_a_connection_lost_before_the_first_token_is_tried_again(
    make: Make, server: ServerState
) -> None:
    engine = make()
    server.cut_after = 0
    with pytest.raises(ServerUnreachable):
        read(engine)
    assert len(server.requests) == 4


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = Address.parse(f"http://127.0.0.1:{port}")
    with pytest.raises(ServerUnreachable, match=f"127.0.0.1:{port} does not answer. Start it"):
        RemoteEngine(where, retry_seconds=0.001)


def test_a_key_is_told_to_the_server_alone(make: Make, server: ServerState) -> None:
    server.key = SECRET
    with pytest.raises(ServerRefused, match="wants a key") as refused:
        make(key="wrong-" + SECRET)
    assert SECRET not in str(refused.value)
    engine = make(key=SECRET)
    assert read(engine)[0] == "Hello there, friend."
    assert set(server.keys[1:]) == {f"Bearer {SECRET}"}
    assert SECRET not in repr(engine.info())


def test_a_server_that_knows_the_standard_alone(make: Make, server: ServerState) -> None:
    server.standard_only = True
    engine = make()
    for _ in range(2):
        assert read(engine)[0] == "Hello there, friend."
    assert ["min_p" in request for request in server.requests] == [True, False, False]


def test_a_refusal_of_both_is_said(make: Make, server: ServerState) -> None:
    engine = make()
    server.statuses = [400, 400]
    with pytest.raises(ServerRefused, match=r"refuses this request \(400\)"):
        read(engine)
    assert len(server.requests) == 2


def test_a_reply_that_would_not_fit_is_made_shorter(make: Make, server: ServerState) -> None:
    server.limit, server.prompt_tokens = 60, 40
    engine = make()
    assert read(engine)[0] == "Hello there, friend."
    assert [request["max_tokens"] for request in server.requests] == [50, 20]
    assert engine.info().context_length == 60  # learned from the refusal
    server.prompt_tokens = 61
    with pytest.raises(ContextFull) as full:
        read(engine)
    assert full.value.context_length == 60
    with pytest.raises(ContextFull):  # known beforehand: the server is not asked
        before = len(server.requests)
        read(engine, Prompt(messages=[{"role": "user", "content": "word " * 200}]))
    assert len(server.requests) == before


def test_tokens_are_guessed_and_the_guess_learns(make: Make, server: ServerState) -> None:
    engine = make()
    long = Prompt(messages=[{"role": "user", "content": "a word or two " * 40}])
    assert long.messages is not None
    before = engine.count_tokens(long.messages)
    server.prompt_tokens = 140
    for _ in range(6):
        read(engine, long)
    assert abs(engine.count_tokens(long.messages) - 140) < abs(before - 140) / 4


def test_a_cut_answer_is_continued_with_or_without_an_echo(make: Make, server: ServerState) -> None:
    prompt = Prompt(messages=ASKED.messages, reply_prefix="Well, ")
    for echo in (False, True):
        server.echo = echo
        assert read(make(), prompt)[0] == "Hello there, friend."
    assert server.requests[0]["continue_final_message"] is True
    assert server.requests[0]["messages"][-1] == {"role": "assistant", "content": "Well, "}
    server.words, server.echo = ["We", "ll"], False  # the beginning of an echo, and then the end
    assert read(make(), prompt)[0] == "Well"
    server.words = ["We", "nt home"]
    assert read(make(), prompt)[0] == "Went home"


def test_reasoning_is_part_of_the_text(make: Make, server: ServerState) -> None:
    server.reasoning = ["Let me", " see."]
    assert read(make())[0] == "<think>\nLet me see.\n</think>\n\nHello there, friend."


def test_texts_and_ids_are_completed(make: Make, server: ServerState) -> None:
    engine = make()
    assert read(engine, Prompt(text="Once upon"))[0] == "Hello there, friend."
    read(engine, Prompt(ids=[1, 2, 3]))
    assert [request["prompt"] for request in server.requests] == ["Once upon", [1, 2, 3]]
    assert server.paths[-2:] == ["/v1/completions"] * 2
    with pytest.raises(PromptEmpty):
        read(engine, Prompt(text=""))


def test_which_model_is_asked(make: Make, server: ServerState) -> None:
    server.models = [{"id": "a", "object": "model"}, {"id": "b", "meta": {"n_ctx_train": 99}}]
    with pytest.raises(ServerRefused, match="serves these models: a, b. Name one behind"):
        make()
    assert make("b").info().context_length == 99
    assert make("a").info().context_length == 4096  # the server does not say
    assert make("a", max_context=2048).info().context_length == 2048
    assert make("b", max_context=2048).info().context_length == 99
    assert make("not-listed").info().model == "not-listed"
    server.statuses = [500]  # it answers, but cannot list its models
    assert make("b").info().context_length == 4096


def test_closing_ends_what_runs(make: Make, server: ServerState) -> None:
    engine = make()
    server.words = ["word "] * 300_000
    stream = engine.stream(ASKED, USUAL, cancel=Event(), scope="")
    next(stream), next(stream)
    server.hold = Event()
    engine.close()
    with pytest.raises(EngineClosed):
        list(stream)
    with pytest.raises(EngineClosed):
        read(engine)


def test_what_it_cannot_do_is_said(make: Make) -> None:
    engine = make()
    with pytest.raises(ModelUnsupported, match="does not score"):
        engine.score("text")
    engine.forget("me")


@pytest.mark.parametrize(
    ("text", "base_url", "model"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1", ""),
        (" HTTP://Gpu.Lan:8000/v1/#meta/Llama ", "http://gpu.lan:8000/v1", "meta/Llama"),
        ("https://[::1]:8443/api/v1#a#b", "https://[::1]:8443/api/v1", "a#b"),
    ],
)
def test_addresses(text: str, base_url: str, model: str) -> None:
    address = Address.parse(text)
    assert (address.base_url, address.model) == (base_url, model)
    assert Address.parse(str(address)) == address
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    ["", "built-in", "http://", "ftp://a/v1", "http://a:x/v1", "http://[::1/v1", "http://a/v1?q=1"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(CheckpointMissing, match="is not the address of a server"):
        Address.parse(text)


def test_an_address_holds_no_key() -> None:
    with pytest.raises(CheckpointMissing) as refused:
        Address.parse(f"http://me:{SECRET}@host/v1")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]/v1", True),
        ("http://10.0.0.7/v1", False),
        ("https://127.0.0.1.evil.example/v1", False),
    ],
)
def test_what_stays_on_this_machine(address: str, here: bool) -> None:
    assert Address.parse(address).is_this_machine is here


@pytest.mark.parametrize(
    ("message", "limit", "prompt"),
    [
        (
            "This model's maximum context length is 4096 tokens. However, you requested 4200 "
            "tokens (3700 in the messages, 500 in the completion).",
            4096,
            3700,
        ),
        ("Requested tokens (600) exceed context window of 512", 512, 0),
        ("The input is longer than the model's context length (8192)", 8192, 0),
        ("the request exceeds the available context size, try increasing it", 0, 0),
    ],
)
def test_what_servers_say_of_a_full_context(message: str, limit: int, prompt: int) -> None:
    told = too_long(message)
    assert told is not None
    assert (told.context_length, told.num_prompt) == (limit, prompt)


def test_other_refusals_are_not_about_the_context() -> None:
    assert too_long("Unexpected fields in the request: {'min_p'}") is None

"""The scripted engine keeps the promises of the seam: stop, limits, errors, measured times."""

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from engine.base import Chunk, Engine, Message, Prompt, Sampling
from engine.errors import ContextFull, DeviceOutOfMemory, EngineClosed, PromptEmpty
from engine.scripted import ScriptedEngine

HELLO = Prompt(messages=[{"role": "user", "content": "Hello you"}])


def read(
    engine: ScriptedEngine, prompt: Prompt = HELLO, sampling: Sampling | None = None
) -> list[Chunk]:
    return list(engine.stream(prompt, sampling or Sampling(), cancel=Event(), scope="1"))


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def test_it_is_an_engine() -> None:
    engine: Engine = ScriptedEngine(["Hi."])
    assert engine.info().num_parameters == 0


def test_a_reply_comes_word_by_word_with_statistics_at_the_end() -> None:
    chunks = read(ScriptedEngine(["One  two,\nthree. "]))
    assert [chunk.text for chunk in chunks] == ["", "One", "  two,", "\nthree.", " ", ""]
    assert [len(chunk.ids) for chunk in chunks] == [0, 1, 1, 1, 1, 0]
    assert [chunk.finish_reason for chunk in chunks] == [None] * 5 + ["stop"]
    statistics = chunks[-1].statistics
    assert statistics is not None
    assert (statistics.num_new, statistics.num_reused) == (4, 0)
    assert statistics.num_prompt == chunks[0].num_prompt == 4  # "user:", two words, "assistant:"
    assert 0 < statistics.first_token_seconds <= statistics.total_seconds


def test_replies_come_in_turn_and_a_seed_chooses() -> None:
    engine = ScriptedEngine(["a", "b", "c"])
    assert [text_of(read(engine)) for _ in range(4)] == ["a", "b", "c", "a"]
    seeded = [read(engine, sampling=Sampling(seed=7)) for _ in range(2)]
    assert [text_of(chunks) for chunks in seeded] == ["b", "b"]
    assert seeded[0][-1].statistics is not None
    assert seeded[0][-1].statistics.seed == 7


def test_a_callable_sees_the_prompt() -> None:
    def echo(prompt: Prompt) -> str:
        assert prompt.messages is not None
        return f"You said {prompt.messages[-1]['content']}."

    assert text_of(read(ScriptedEngine(echo))) == "You said Hello you."


def test_an_error_in_the_middle_passes_through() -> None:
    def failing(prompt: Prompt) -> Iterator[str]:
        yield "Half"
        raise DeviceOutOfMemory("The device is full.")

    stream = ScriptedEngine(failing).stream(HELLO, Sampling(), cancel=Event(), scope="1")
    assert [next(stream).text, next(stream).text] == ["", "Half"]
    with pytest.raises(DeviceOutOfMemory):
        next(stream)


@pytest.mark.parametrize(
    ("sampling", "shown", "reason"),
    [
        (Sampling(stop=("two th",)), "one ", "stop"),
        (Sampling(stop=("five",)), "one two three four", "stop"),
        (Sampling(stop=("three four five",)), "one two three four", "stop"),
        (Sampling(max_new_tokens=2), "one two", "length"),
        (Sampling(max_new_tokens=4), "one two three four", "length"),
        (Sampling(max_new_tokens=5), "one two three four", "stop"),
    ],
)
def test_stop_strings_and_limits(sampling: Sampling, shown: str, reason: str) -> None:
    chunks = read(ScriptedEngine(["one two three four"]), sampling=sampling)
    assert (text_of(chunks), chunks[-1].finish_reason) == (shown, reason)


def test_a_cut_reply_goes_on_where_it_was_cut() -> None:
    prompt = Prompt(messages=HELLO.messages, reply_prefix="one two")
    assert text_of(read(ScriptedEngine(["one two three"]), prompt)) == " three"


def test_cancel_ends_a_slow_reply_at_once() -> None:
    cancel = Event()
    engine = ScriptedEngine(["word " * 50], seconds_per_token=3600)
    stream = engine.stream(HELLO, Sampling(), cancel=cancel, scope="1")
    next(stream)
    Thread(target=cancel.set).start()
    last = next(stream)
    assert (last.finish_reason, last.text) == ("cancelled", "")


def test_closing_ends_a_running_reply() -> None:
    engine = ScriptedEngine(["word " * 50], seconds_per_token=3600)
    stream = engine.stream(HELLO, Sampling(), cancel=Event(), scope="1")
    next(stream)
    Thread(target=engine.close).start()
    with pytest.raises(EngineClosed):
        next(stream)
    with pytest.raises(EngineClosed):
        read(engine)


def test_the_statistics_are_measured() -> None:
    before = time.perf_counter()
    statistics = read(ScriptedEngine(["a b c"], seconds_per_token=0.01))[-1].statistics
    spent = time.perf_counter() - before
    assert statistics is not None
    assert 0.03 <= statistics.total_seconds <= spent
    assert 0.01 <= statistics.first_token_seconds < statistics.total_seconds


def test_a_full_context_and_an_empty_prompt_are_errors() -> None:
    engine = ScriptedEngine(["a b c d e"], context_length=8)
    with pytest.raises(ContextFull) as caught:
        read(engine, Prompt(text="word " * 9))
    assert (caught.value.num_prompt, caught.value.context_length) == (10, 8)
    for empty in (Prompt(text=""), Prompt(ids=()), Prompt(messages=())):
        with pytest.raises(PromptEmpty):
            read(engine, empty)
    chunks = read(engine, Prompt(ids=range(5)))
    assert (text_of(chunks), chunks[-1].finish_reason) == ("a b c", "length")


def test_tokens_are_counted_and_scored() -> None:
    engine = ScriptedEngine([])
    messages: list[Message] = [{"role": "user", "content": "three more words"}]
    assert engine.count_tokens(messages) == read(engine, Prompt(messages=messages))[0].num_prompt
    scores = engine.score("naïve word")
    assert scores.num_bytes == (6, 5)
    assert scores.logprobs == (0.0, pytest.approx(-5 * math.log(256)))
    assert engine.score(scores.ids) == scores
    assert engine.score("").ids == ()


def test_it_needs_neither_torch_nor_a_tokenizer() -> None:
    code = (
        "import sys, engine.scripted;"
        "print(sorted({'torch', 'numpy', 'tokenizers', 'sentencepiece'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""A reply read again gives the numbers that it was written by, and can be gone on from anywhere."""

from collections.abc import Iterator
from dataclasses import replace
from threading import Event

import pytest

from engine.base import Chunk, Message, Prompt, Retracing, Sampling
from engine.errors import ContextFull
from engine.local import LocalEngine
from tests.engine.answers import tiny_engine

ASKED: list[Message] = [{"role": "user", "content": "hello there, 你好 🦙"}]
GREEDY = Sampling(temperature=0, max_new_tokens=40, num_logprobs=5)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    with tiny_engine(tmp_path_factory.mktemp("models") / "tiny-chat") as engine:
        yield engine


def written(engine: LocalEngine, prompt: Prompt, sampling: Sampling = GREEDY) -> list[Chunk]:
    return list(engine.stream(prompt, sampling, cancel=Event(), scope="1/a"))


def of(chunks: list[Chunk]) -> tuple[str, list[int]]:
    text = "".join(chunk.text for chunk in chunks)
    return text, [token for chunk in chunks for token in chunk.ids]


def test_the_numbers_are_those_of_the_writing(engine: LocalEngine) -> None:
    assert isinstance(engine, Retracing)
    chunks = written(engine, Prompt(messages=ASKED))
    text, ids = of(chunks)
    found = engine.retrace(
        Prompt(messages=ASKED, reply_prefix=text, reply_ids=ids), num_alternatives=5
    )
    told = [entry for chunk in chunks for entry in chunk.logprobs]
    assert [entry.id for entry in found] == ids == [entry.id for entry in told]
    assert "".join(entry.text for entry in found) == text
    for one, other in zip(found, told, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [a[0] for a in one.alternatives] == [a[0] for a in other.alternatives]
        assert len(one.alternatives) == 5
        assert one.alternatives[0][2] >= one.logprob - 1e-6


def test_going_on_from_own_ids_gives_the_same_rest_and_reads_little(engine: LocalEngine) -> None:
    text, ids = of(written(engine, Prompt(messages=ASKED)))
    found = engine.retrace(Prompt(messages=ASKED, reply_prefix=text, reply_ids=ids))
    begun = ["", *(engine.text(ids[:n]) for n in range(1, len(ids)))]
    whole = [n for n in range(8, 40) if begun[n] == "".join(e.text for e in found[:n])]
    at = whole[0]  # not in the middle of a character
    prompt = Prompt(messages=ASKED, reply_prefix=begun[at], reply_ids=ids[:at])
    chunks = written(engine, prompt, replace(GREEDY, max_new_tokens=40 - at))
    assert of(chunks)[1] == ids[at:]
    cost = chunks[-1].statistics
    assert cost is not None
    assert cost.num_prompt - cost.num_reused == 1


def test_ids_that_say_something_else_are_not_used(engine: LocalEngine) -> None:
    _, ids = of(written(engine, Prompt(messages=ASKED)))
    lying = Prompt(messages=ASKED, reply_prefix="hello", reply_ids=ids)
    honest = Prompt(messages=ASKED, reply_prefix="hello")
    assert of(written(engine, lying)) == of(written(engine, honest))
    assert "".join(e.text for e in engine.retrace(lying)) == "hello"


def test_what_cannot_be_retraced_says_so(engine: LocalEngine) -> None:
    assert engine.retrace(Prompt(messages=ASKED)) == ()
    with pytest.raises(ContextFull):
        engine.retrace(Prompt(messages=ASKED, reply_prefix="long words " * 5_000))

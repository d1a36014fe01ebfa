"""What goes wrong in a step ends one answer, with a sentence, and the others go on."""

from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest
import torch

from engine.errors import CheckpointBroken, DeviceOutOfMemory, EngineError
from engine.kv_cache import Slot
from tests.engine.answers import ids_of
from tests.engine.scheduling import OUT_OF_MEMORY, Bench, prompt_of


def test_out_of_memory_while_reading_frees_the_row_and_goes_on(bench: Bench) -> None:
    def fail(ids: Sequence[int], spans: Sequence[tuple[Slot, int]]) -> None:
        if len(ids) == 50:
            raise OUT_OF_MEMORY

    bench.model.before = fail
    with pytest.raises(DeviceOutOfMemory, match="smaller model"):
        list(bench.ask(prompt_of(50), 5))
    assert len(ids_of(list(bench.ask(prompt_of(20), 5)))) == 5


def test_out_of_memory_while_writing_ends_one_row_only(bench: Bench) -> None:
    """The row that holds most goes; its text so far was handed out; the other never notices."""
    short = ids_of(list(bench.ask(prompt_of(5), 30, scope="")))
    state = {"armed": True, "failed": 0}

    def fail(ids: Sequence[int], spans: Sequence[tuple[Slot, int]]) -> None:
        if len(spans) == 2 and state["armed"] and spans[0][0].length > 10:
            state["failed"] += 1
            raise OUT_OF_MEMORY

    bench.model.before = fail
    go = bench.hold()
    first, second = bench.ask(prompt_of(5), 30, scope=""), bench.ask(prompt_of(80), 90, scope="")
    go.set()
    assert ids_of(list(first)) == short
    got = []
    with pytest.raises(DeviceOutOfMemory):
        for chunk in second:
            got += chunk.ids
    assert state["failed"] == 1 and len(got) > 3


def test_kept_prefixes_are_given_up_before_a_row_is(bench: Bench) -> None:
    list(bench.ask(prompt_of(60), 4, scope="9"))
    assert bench.scheduler.sizes().device_bytes > 0
    failures = [OUT_OF_MEMORY]

    def fail(ids: Sequence[int], spans: Sequence[tuple[Slot, int]]) -> None:
        if failures:
            raise failures.pop()

    bench.model.before = fail
    assert len(ids_of(list(bench.ask(prompt_of(20), 5, scope="1")))) == 5


def test_a_slot_that_cannot_grow_ends_its_row_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_room = bench.model.model.make_room

    def no_room(slot: Slot, num_tokens: int) -> None:
        if num_tokens > 30:
            raise DeviceOutOfMemory("no room for 31 tokens")
        make_room(slot, num_tokens)

    monkeypatch.setattr(bench.model, "make_room", no_room)
    stream, got = bench.ask(prompt_of(20), 50), []
    with pytest.raises(DeviceOutOfMemory):
        for chunk in stream:
            got += chunk.ids
    assert len(got) == 11  # the tokens 21 to 31: the last needed no room of its own
    assert len(ids_of(list(bench.ask(prompt_of(10), 5)))) == 5


PASSES = 12  # of the answer below: four parts of its prompt, then a token each


@pytest.mark.parametrize("stage", range(PASSES))
def test_out_of_memory_at_any_pass_ends_its_answer_only(folder: Path, stage: int) -> None:
    """In every part of the prompt and at every token: text so far stays, the next answer comes."""
    bench = Bench(folder, chunk=16, speculate=False)
    expected = ids_of(list(bench.ask(prompt_of(60), 9, scope="")))
    bench.model.passes.clear()

    def fail(ids: Sequence[int], spans: Sequence[tuple[Slot, int]]) -> None:
        if len(bench.model.passes) == stage:
            raise OUT_OF_MEMORY

    bench.model.before = fail
    got: list[int] = []
    with pytest.raises(DeviceOutOfMemory):
        for chunk in bench.ask(prompt_of(60), 9, scope="1"):
            got += chunk.ids
    assert got == expected[: max(0, stage - 3)]
    bench.model.before = lambda _ids, _spans: None
    assert ids_of(list(bench.ask(prompt_of(60), 9, scope=""))) == expected
    assert bench.scheduler.sizes().device_bytes == 0
    bench.scheduler.close()


@pytest.mark.parametrize("stage", range(PASSES))
def test_a_cancel_at_any_pass_frees_the_row_with_it(folder: Path, stage: int) -> None:
    bench, cancel = Bench(folder, chunk=16, speculate=False), Event()

    def stop(ids: Sequence[int], spans: Sequence[tuple[Slot, int]]) -> None:
        if len(bench.model.passes) == stage:
            cancel.set()

    bench.model.before = stop
    chunks = list(bench.ask(prompt_of(60), 30, scope="", cancel=cancel))
    assert chunks[-1].finish_reason == "cancelled"
    assert len(bench.model.passes) == stage + 1
    assert len(ids_of(chunks)) == max(0, stage - 2)
    assert bench.scheduler.sizes().device_bytes == 0
    bench.scheduler.close()


def test_numbers_that_are_none_end_the_row_with_a_sentence(bench: Bench) -> None:
    bench.model.after = lambda logits: torch.full_like(logits, float("nan"))
    with pytest.raises(CheckpointBroken, match="no usable numbers"):
        list(bench.ask(prompt_of(20), 5))
    bench.model.after = lambda logits: logits
    again = list(bench.ask([*prompt_of(20), 4], 5))
    assert len(ids_of(again)) == 5
    assert again[-1].statistics is not None and again[-1].statistics.num_reused == 0


def test_an_error_of_our_own_ends_the_answer_not_the_engine(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(ids: Sequence[int], spans: Sequence[tuple[Slot, int]]) -> None:
        bench.model.before = lambda _ids, _spans: None
        raise KeyError("a bug")

    bench.model.before = fail
    with pytest.raises(EngineError, match="log says where"):
        list(bench.ask(prompt_of(20), 5))
    assert "a step failed" in caplog.text
    assert len(ids_of(list(bench.ask(prompt_of(20), 5)))) == 5


def test_rows_wait_for_bytes_and_kept_prefixes_make_room(folder: Path) -> None:
    bench = Bench(folder)
    one_slot = 256 * bench.model.cache_shape.token_bytes
    bench.scheduler.serve(bench.model, one_slot)
    go = bench.hold()
    streams = [bench.ask(prompt_of(30, seed), 10, scope=f"{seed}") for seed in range(4)]
    go.set()
    assert [len(ids_of(list(stream))) for stream in streams] == [10] * 4
    assert max(len(each) for each in bench.model.passes) == 1, "more rows than there is room for"
    held = bench.scheduler.sizes().device_bytes
    bench.scheduler.close()
    assert held <= one_slot

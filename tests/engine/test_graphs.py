"""Recorded steps write what passes write that are not recorded, and are dropped when in doubt.

A tape stands in for the GPU (`tests/engine/tapes.py`); `test_cuda_graphs.py` needs a real one.
"""

from __future__ import annotations

import random
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine import graphs, loading
from engine.__main__ import main
from engine.base import Sampling
from engine.checkpoint import open_checkpoint
from engine.graphs import CHECKS, PATIENCE, TRIALS, Graphs, difference, window_for
from engine.kv_cache import Kept, Slot
from engine.llama import Llama
from engine.local import LocalEngine
from engine.options import Options
from engine.quantize import Precision
from engine.recording import Recording, Work, recorder_for
from engine.speculation import Worth
from engine.weights import load_llama
from tests.engine.answers import ask, ids_of
from tests.engine.checkpoints import GENERATIONS, make_checkpoint
from tests.engine.passes import PROMPT, write
from tests.engine.scheduling import OUT_OF_MEMORY, Bench, prompt_of
from tests.engine.tapes import TapeRecorder, by_torch

CPU = torch.device("cpu")
EXACT = 1e-4
TOLD = (
    r"Answers are written without CUDA graphs, slower than they could be: (.+)\. "
    r"Update the graphics driver, then load the model again\."
)
FIRST = PATIENCE + CHECKS  # steps before the first that is a replay alone
WORTH = 2 * PATIENCE + 1  # steps of rows whose recording was worth it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("models") / "long", max_position_embeddings=1024)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Llama:
    return loaded(folder)


@pytest.fixture
def tape() -> TapeRecorder:
    return TapeRecorder()


@pytest.fixture
def model(folder: Path, tape: TapeRecorder) -> Llama:
    return recorded(loaded(folder), tape)


def loaded(folder: Path, precision: Precision = "fp32", kept: Kept = "auto") -> Llama:
    return by_torch(load_llama(open_checkpoint(folder), precision, CPU, kept=kept))


def recorded(model: Llama, tape: TapeRecorder, tolerance: float = EXACT) -> Llama:
    model.graphs = Graphs(model, tape, tolerance)
    return model


def slot_with(model: Llama, ids: list[int]) -> Slot:
    slot = Slot(model.cache_shape)
    model.make_room(slot, len(ids))
    model.forward(ids, [(slot, len(ids))])
    return slot


def steps(model: Llama, slots: list[Slot], num: int, first: int = 7) -> Tensor:
    """Logits (num, rows, V) of so many steps of all slots, each row going on greedily."""
    ids, logits = [first + row for row in range(len(slots))], []
    for _ in range(num):
        for slot in slots:
            model.make_room(slot, slot.length + 1)
        logits.append(model.forward(ids, [(slot, 1) for slot in slots]))
        ids = logits[-1].argmax(dim=-1).tolist()
    return torch.stack(logits)


def compare(model: Llama, plain: Llama, prompts: list[list[int]], num: int) -> None:
    """The same tokens, from logits that are nearly the same."""
    mine = steps(model, [slot_with(model, ids) for ids in prompts], num)
    expected = steps(plain, [slot_with(plain, ids) for ids in prompts], num)
    assert difference(mine, expected) < EXACT
    margins = expected.topk(2).values @ torch.tensor([1.0, -1.0])
    assert margins.min() > 4 * (mine - expected).abs().max(), "two tokens tie: choose another seed"
    assert torch.equal(mine.argmax(dim=-1), expected.argmax(dim=-1))


# --- the same answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATIONS)
def test_replays_write_what_passes_write(name: str, tmp_path: Path, tape: TapeRecorder) -> None:
    folder = make_checkpoint(tmp_path, **GENERATIONS[name])
    expected = write(loaded(folder), PROMPT, 28)
    assert write(recorded(loaded(folder), tape), PROMPT, 28) == expected
    assert tape.num_replayed > 8


@pytest.mark.parametrize("kept", ["auto", "int8"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
def test_in_every_precision(
    precision: Precision, kept: Kept, tmp_path: Path, tape: TapeRecorder
) -> None:
    folder = make_checkpoint(tmp_path, hidden_size=128, intermediate_size=192, attention_bias=True)
    expected = write(loaded(folder, precision, kept), PROMPT, 24)
    model = recorded(loaded(folder, precision, kept), tape, 0.02)
    assert write(model, PROMPT, 24) == expected
    assert tape.num_replayed > 8 and model.graphs is not None and model.graphs.serves


def test_rows_of_any_length_together(model: Llama, plain: Llama, tape: TapeRecorder) -> None:
    prompts = [prompt_of(length, length) for length in (3, 90, 17, 755, 40)]
    compare(model, plain, prompts, 2 * FIRST)
    assert tape.num_recorded == 2, "one for the first window, one where the longest row left it"
    assert tape.num_replayed == 2 * FIRST - PATIENCE


def test_a_text_that_outgrows_windows_and_slots(
    model: Llama, plain: Llama, tape: TapeRecorder
) -> None:
    compare(model, plain, [prompt_of(230)], 310)
    # 256 tokens fill the first slot; the second holds 512 in one window, the third begins 768.
    assert tape.num_recorded == 3
    assert tape.num_replayed == 310 - 3 * PATIENCE


def test_rows_that_come_and_go(model: Llama, plain: Llama, tape: TapeRecorder) -> None:
    def play(model: Llama) -> list[list[int]]:
        first, second = slot_with(model, prompt_of(20)), slot_with(model, prompt_of(60, 3))
        steps(model, [first], WORTH)
        steps(model, [first, second], WORTH, 30)
        steps(model, [second], WORTH, 60)
        second.trim(70)
        steps(model, [second, first], WORTH, 90)
        model.forward(prompt_of(33, 5), [(first, 33)])
        steps(model, [second, first], WORTH, 120)
        steps(model, [first], 5, 150)
        return [first.ids, second.ids]

    assert play(model) == play(plain)
    assert tape.num_recorded == 4


def test_a_text_that_is_cut_and_copied(model: Llama, plain: Llama, tape: TapeRecorder) -> None:
    """What edits, other versions and branches do to a slot."""

    def play(model: Llama) -> list[list[int]]:
        slot = slot_with(model, prompt_of(100))
        steps(model, [slot], 20)
        slot.trim(60)
        steps(model, [slot], 20, 50)
        branch = slot.copy(70, 100)
        steps(model, [branch], 20, 90)
        steps(model, [slot, branch], 20, 120)
        return [slot.ids, branch.ids]

    assert play(model) == play(plain)
    assert tape.num_recorded == 3 and tape.num_replayed > 40


def test_what_lies_behind_the_text_does_not_matter(
    model: Llama, plain: Llama, tape: TapeRecorder
) -> None:
    """Memory that a slot got may hold anything, numbers that are none included."""
    logits = []
    for each in (model, plain):
        slot = slot_with(each, prompt_of(30))
        for layer in slot.layers:
            layer[:, 30:] = float("nan")
        logits.append(steps(each, [slot], 2 * FIRST))
    assert difference(*logits) < EXACT and tape.num_replayed > FIRST


def play(model: Llama, seed: int, num: int) -> list[list[int]]:
    """What happens to slots in any order: turns, cuts, branches, new rows, rows that end."""
    dice, slots, said = random.Random(seed), list[Slot](), list[list[int]]()
    for turn in range(num):
        act = dice.random()
        if len(slots) < 2 or (act < 0.15 and len(slots) < 4):
            slots.append(slot_with(model, prompt_of(dice.choice((5, 60, 240, 500)), turn)))
        elif act < 0.3:
            slots[dice.randrange(len(slots))].trim(dice.randrange(3, 40))
        elif act < 0.4:
            slot = slots.pop(dice.randrange(len(slots)))
            slots.append(slot.copy(slot.length // 2, slot.length))
            slot.release()
        elif act < 0.5:
            said.append(slots[0].ids)
            slots.pop(0).release()
        elif act < 0.6:
            slot, num_read = slots[0], dice.randrange(2, 30)
            model.make_room(slot, slot.length + num_read)
            model.forward(prompt_of(num_read, turn), [(slot, num_read)])
        if slots:
            some = dice.sample(slots, dice.randrange(1, len(slots) + 1))
            steps(model, some, dice.choice((3, 12, 30)), turn)
    return said + [slot.ids for slot in slots]


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(2, 60))]
)
def test_whatever_happens_to_slots(
    seed: int, model: Llama, plain: Llama, tape: TapeRecorder
) -> None:
    assert play(model, seed, 14) == play(plain, seed, 14)
    assert tape.num_replayed > 10


# --- under the scheduler --------------------------------------------------------------------------


@pytest.fixture
def bench(folder: Path, model: Llama) -> Iterator[Bench]:
    made = Bench(folder, model=model, speculate=False)
    yield made
    made.scheduler.close()


@pytest.fixture
def plain_bench(folder: Path, plain: Llama) -> Iterator[Bench]:
    made = Bench(folder, model=plain, speculate=False)
    yield made
    made.scheduler.close()


def answers(bench: Bench, prompts: list[list[int]], num: int, **how: Sampling) -> list[list[int]]:
    go = bench.hold()
    streams = [bench.ask(prompt, num, scope="", **how) for prompt in prompts]
    go.set()
    return [ids_of(list(stream)) for stream in streams]


def test_a_batch_equals_the_solo_runs_of_passes(
    bench: Bench, plain_bench: Bench, tape: TapeRecorder
) -> None:
    prompts = [prompt_of(length, length) for length in (3, 40, 17, 90, 5)]
    expected = [answers(plain_bench, [prompt], 40)[0] for prompt in prompts]
    assert answers(bench, prompts, 40) == expected
    assert tape.num_replayed > 20


def test_seeded_draws_are_the_same(bench: Bench, plain_bench: Bench, tape: TapeRecorder) -> None:
    sampling = Sampling(temperature=0.9, top_p=0.95, seed=4)
    expected = answers(plain_bench, [prompt_of(9)], 40, sampling=sampling)
    assert answers(bench, [prompt_of(9)], 40, sampling=sampling) == expected
    assert tape.num_replayed > 20


def test_turns_of_a_conversation(bench: Bench, plain_bench: Bench, tape: TapeRecorder) -> None:
    """Each goes on in the slot of the one before, from where the prompts part."""

    def play(bench: Bench) -> list[int]:
        ids = prompt_of(40)
        for turn in range(4):
            ids = [*ids, *ids_of(list(bench.ask(ids, 20, scope="1/a"))), *prompt_of(9, turn)]
        ids = [*ids[:80], *prompt_of(20, 9)]
        return [*ids, *ids_of(list(bench.ask(ids, 30, scope="1/a")))]

    assert play(bench) == play(plain_bench)
    assert tape.num_replayed > 60


def test_guesses_between_recorded_steps(
    folder: Path, model: Llama, plain: Llama, tape: TapeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]

    def every_second(_worth: Worth) -> bool:
        calls[0] += 1
        return calls[0] % 2 == 0

    monkeypatch.setattr(Worth, "allows", every_second)
    few = Sampling(temperature=0, logit_bias={65: 5.0, 66: 5.0, 67: 5.0})  # soon they repeat
    replies = []
    for each in (model, plain):
        bench = Bench(folder, model=each)
        replies.append(answers(bench, [prompt_of(20)], 120, sampling=few))
        bench.scheduler.close()
        assert any(num > 1 for passed in bench.model.passes[1:] for num in passed)
    assert replies[0] == replies[1] and tape.num_replayed > 5


def test_a_stop_while_steps_are_replayed(bench: Bench, plain_bench: Bench) -> None:
    expected = answers(plain_bench, [prompt_of(30, 2)], 30)
    stream = bench.ask(prompt_of(30), 200, scope="1/a")
    for _ in range(2 * FIRST):
        next(stream)
    stream.close()
    assert answers(bench, [prompt_of(30, 2)], 30) == expected


# --- memory ---------------------------------------------------------------------------------------


class Forgetful(TapeRecorder):
    """As a real one: it holds nothing of the work that was recorded."""

    def record(self, work: Work) -> Recording:
        result = work()

        def replay() -> Tensor:
            self.num_replayed += 1
            return result

        return Recording(replay, 0)


def test_recordings_hold_no_memory_of_slots(folder: Path) -> None:
    model = recorded(loaded(folder), Forgetful(), float("inf"))
    slot = slot_with(model, prompt_of(20))
    memory = weakref.ref(slot.layers[0])
    steps(model, [slot], 2 * FIRST)
    assert model.graphs is not None and model.graphs.num_kept == 1
    slot.release()
    assert memory() is None
    steps(model, [slot_with(model, prompt_of(20))], FIRST)
    assert model.graphs.num_kept == 1, "the void one is gone"


def test_another_slot_in_the_same_place_is_recorded_anew(
    model: Llama, plain: Llama, tape: TapeRecorder
) -> None:
    """Python and allocators give places of what is gone to what is new."""
    slot = slot_with(model, prompt_of(20))
    steps(model, [slot], FIRST + 1)
    assert model.graphs is not None
    (_, window), graph = next(iter(model.graphs._kept.items()))
    other = slot_with(model, prompt_of(20))
    model.graphs._kept[((id(other.layers[0]), 0),), window] = graph
    before = tape.num_replayed
    steps(model, [other], PATIENCE)
    assert tape.num_replayed == before


def test_only_so_many_are_kept(
    model: Llama, tape: TapeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MOST_KEPT", 2)
    slots = [slot_with(model, prompt_of(9, row)) for row in range(3)]
    for slot in slots:
        steps(model, [slot], WORTH)
    assert model.graphs is not None and model.graphs.num_kept == 2 and tape.num_recorded == 3
    steps(model, [slots[2]], 3)
    assert tape.num_recorded == 3
    steps(model, [slots[0]], PATIENCE)
    assert tape.num_recorded == 3, "what had to go waits again"
    steps(model, [slots[0]], 1)
    assert tape.num_recorded == 4


def test_only_so_many_bytes_are_kept(model: Llama, tape: TapeRecorder) -> None:
    assert model.graphs is not None
    tape.num_bytes = graphs.MOST_BYTES // 2
    for row in range(3):
        steps(model, [slot_with(model, prompt_of(9, row))], WORTH)
    assert model.graphs.num_kept == 2
    tape.num_bytes = graphs.MOST_BYTES + 1
    steps(model, [slot_with(model, prompt_of(300))], FIRST)
    assert tape.num_recorded == 4 and model.graphs.num_kept == 2


def test_no_memory_for_a_recording(
    model: Llama, plain: Llama, tape: TapeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text goes on; after a while it is tried again."""
    monkeypatch.setattr(graphs, "REST", 20)

    def fail() -> None:
        tape.before = lambda: None
        raise OUT_OF_MEMORY

    tape.before = fail
    compare(model, plain, [prompt_of(20)], PATIENCE + 10)
    assert model.graphs is not None
    assert tape.num_recorded == 0 and model.graphs.told == ""
    compare(model, plain, [prompt_of(20)], 40)
    assert tape.num_recorded == 1 and model.graphs.serves


def test_a_failed_capture_hides_the_memory_that_it_lacked(model: Llama, tape: TapeRecorder) -> None:
    def fail() -> None:
        try:
            raise OUT_OF_MEMORY
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    tape.before = fail
    steps(model, [slot_with(model, prompt_of(9))], FIRST)
    assert model.graphs is not None and model.graphs.told == ""


def test_recordings_are_given_up_where_memory_runs_out(bench: Bench, tape: TapeRecorder) -> None:
    model = bench.model.model
    assert isinstance(model, Llama) and model.graphs is not None
    expected = answers(bench, [prompt_of(30)], 40)
    held = model.graphs.num_kept
    left = [1]

    def fail(ids: object, spans: object) -> None:
        if tape.num_replayed > 45 and left[0]:
            left[0] = 0
            raise OUT_OF_MEMORY

    bench.model.before = fail
    assert answers(bench, [prompt_of(30)], 40) == expected
    assert held == 1 and not left[0]
    assert model.graphs.num_kept == 0, "they rest"


# --- doubts ---------------------------------------------------------------------------------------


def off(model: Llama) -> str:
    """Why graphs were given up for good."""
    assert model.graphs is not None and model.graphs.num_kept == 0 and not model.graphs.serves
    told = re.fullmatch(TOLD, model.kernels)
    assert told and model.kernels == model.graphs.given_up
    return told[1]


def test_a_replay_with_other_numbers(model: Llama, plain: Llama, tape: TapeRecorder) -> None:
    tape.after = lambda logits: logits + 0.1
    compare(model, plain, [prompt_of(20), prompt_of(30)], 2 * FIRST)
    assert "computed other numbers" in off(model)
    assert tape.num_replayed == 1


def test_a_replay_with_numbers_that_are_none(
    model: Llama, plain: Llama, tape: TapeRecorder
) -> None:
    tape.after = lambda logits: logits * float("nan")
    compare(model, plain, [prompt_of(20)], 2 * FIRST)
    assert "computed other numbers" in off(model)


class WithoutWriting(TapeRecorder):
    """Its logits are right, but what it leaves in the slots is lost."""

    slot: Slot

    def record(self, work: Work) -> Recording:
        replay = super().record(work).replay

        def lossy() -> Tensor:
            result = replay().clone()
            for layer in self.slot.layers:
                layer[:, self.slot.length] = 0
            return result

        return Recording(lossy, 0)


def test_a_replay_that_leaves_nothing_in_the_slot(folder: Path, plain: Llama) -> None:
    recorder = WithoutWriting()
    model = recorded(loaded(folder), recorder)
    recorder.slot = slot_with(model, prompt_of(20))
    steps(model, [recorder.slot], FIRST)
    assert "computed other numbers" in off(model)


class Stuck(TapeRecorder):
    """Does every time what it did the first time."""

    def record(self, work: Work) -> Recording:
        replay, results = super().record(work).replay, list[Tensor]()

        def stuck() -> Tensor:
            results.append(results[0] if results else replay().clone())
            return results[-1]

        return Recording(stuck, 0)


def test_a_replay_that_is_right_once(folder: Path, plain: Llama) -> None:
    model = recorded(loaded(folder), Stuck())
    compare(model, plain, [prompt_of(20)], 2 * FIRST)
    assert "computed other numbers" in off(model)


def test_a_device_that_cannot_record(model: Llama, plain: Llama, tape: TapeRecorder) -> None:
    def fail() -> None:
        raise RuntimeError("operation not permitted when stream is capturing.\nCompile with ...")

    tape.before = fail
    compare(model, plain, [prompt_of(20)], 2 * FIRST)
    assert off(model).endswith("RuntimeError, operation not permitted when stream is capturing")


def test_a_replay_that_fails_later(model: Llama, plain: Llama, tape: TapeRecorder) -> None:
    def fail(logits: Tensor) -> Tensor:
        if tape.num_replayed == 5:
            raise RuntimeError("CUDA error: launch failure")
        return logits

    tape.after = fail
    compare(model, plain, [prompt_of(20)], 2 * FIRST)
    assert "launch failure" in off(model)


def test_a_recording_that_is_not_faster(model: Llama, plain: Llama, tape: TapeRecorder) -> None:
    tape.replay_seconds = 1.5
    compare(model, plain, [prompt_of(20)], 3 * FIRST)
    assert tape.num_recorded == TRIALS and tape.num_replayed == TRIALS * CHECKS
    assert model.kernels == "Decoding in CUDA graphs was no faster than without."
    tape.replay_seconds = 0.5
    compare(model, plain, [prompt_of(300)], 2 * FIRST)
    assert model.kernels == "Decoding replays CUDA graphs."


# --- loading --------------------------------------------------------------------------------------


@pytest.fixture
def recording_device(tape: TapeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU records, and has no kernels but those of torch."""

    def load(*given: Any, **how: Any) -> Llama:
        return by_torch(load_llama(*given, **how))

    monkeypatch.setattr(loading, "load_llama", load)
    monkeypatch.setattr(loading, "can_step", lambda _model: False)
    monkeypatch.setattr(loading, "recorder_for", lambda _device: tape)


@pytest.mark.usefixtures("recording_device")
def test_what_becomes_of_graphs_is_told(folder: Path, tape: TapeRecorder) -> None:
    """At loading, when they were tried, and later, when they failed."""
    engine = LocalEngine(folder, Options(device="cpu", threads=1))
    assert engine.info().kernels == "Decoding replays CUDA graphs."
    assert engine.info().unrecorded == ""
    tape.after = lambda logits: logits * 2
    sampling = Sampling(temperature=0, max_new_tokens=2 * FIRST)
    ask(engine, [{"role": "user", "content": "Hello!"}], sampling)
    assert "computed other numbers" in engine.info().unrecorded == engine.info().kernels
    engine.close()


@pytest.mark.usefixtures("recording_device")
def test_commands_tell_it_too(
    folder: Path, tape: TapeRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    tape.after = lambda logits: logits * 2
    model = ["--model", str(folder), "--device", "cpu", "--threads", "1"]
    assert main(["generate", "--prompt", "Hello", "--max-new-tokens", "4", *model]) == 0
    told = re.search(TOLD, capsys.readouterr().err)
    assert told and "computed other numbers" in told[1]


@pytest.mark.usefixtures("recording_device")
def test_a_deterministic_engine_has_none(folder: Path, tape: TapeRecorder) -> None:
    engine = LocalEngine(folder, Options(device="cpu", threads=1, deterministic=True))
    before = tape.num_recorded
    sampling = Sampling(temperature=0, max_new_tokens=2 * FIRST)
    ask(engine, [{"role": "user", "content": "Hello!"}], sampling)
    assert before == tape.num_recorded == 1 and "graphs" not in engine.info().kernels
    engine.close()


# --- what is not recorded -------------------------------------------------------------------------


def test_prompts_guesses_and_adapters_are_not(model: Llama, tape: TapeRecorder) -> None:
    slot = slot_with(model, prompt_of(20))
    for at in range(2 * FIRST):
        model.forward([at, at + 1], [(slot, 2)], every=True)
    model.adapters.add("an adapter")
    other = Slot(model.cache_shape, adapter="an adapter")
    steps(model, [other], 2 * FIRST)
    assert tape.num_recorded == 0


def test_a_short_reply_is_not(model: Llama, tape: TapeRecorder) -> None:
    for seed in range(3):
        steps(model, [slot_with(model, prompt_of(9, seed))], PATIENCE)
    assert tape.num_recorded == 0


def test_rows_that_change_often_wait_longer(model: Llama, tape: TapeRecorder) -> None:
    """Recordings that serve few steps are made ever more rarely, until one serves many."""

    def length_of_wait(num_steps: int) -> int:
        slot, before = slot_with(model, prompt_of(9)), tape.num_recorded
        for num in range(200):
            steps(model, [slot], 1, num)
            if tape.num_recorded > before:
                steps(model, [slot], num_steps - 1, num)
                return num
        raise AssertionError("nothing was recorded")

    waits = [length_of_wait(num) for num in (2, 2, 2, 2, 2, 2, PATIENCE, 2, 2)]
    assert waits == [8, 8, 16, 32, 64, 64, 64, 64, 8]


def test_nothing_is_recorded_on_a_cpu() -> None:
    assert recorder_for(CPU) is None and recorder_for(torch.device("mps")) is None


@pytest.mark.parametrize("num", [1, 255, 256, 257, 1000, 1024, 1025, 2048, 2049, 5000, 131072])
def test_a_window_is_a_quarter_too_wide_at_most(num: int) -> None:
    assert num <= window_for(num) <= max(num + 255, 1.25 * num) and window_for(num) % 256 == 0


def test_windows_are_few() -> None:
    assert len({window_for(num) for num in range(1, 131073)}) < 40

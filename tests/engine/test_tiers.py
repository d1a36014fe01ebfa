"""Device, memory, disk: each within its bytes, and what leaves one is found in the next."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest
import torch

from engine.base import CacheSizes, Chunk
from engine.disk_tier import PIECE, DiskTier
from engine.errors import DeviceOutOfMemory
from engine.generate import ReplyStream
from engine.kv_cache import Slot
from engine.reading import ReadingModel
from tests.engine.answers import ids_of
from tests.engine.checkpoints import make_checkpoint
from tests.engine.scheduling import OUT_OF_MEMORY, Bench, prompt_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("models") / "tiny", max_position_embeddings=1024)


@pytest.fixture
def bench(folder: Path) -> Iterator[Bench]:
    made = Bench(folder, speculate=False)
    yield made
    made.scheduler.close()


def one_slot(bench: Bench) -> int:
    """Bytes of a slot for a short conversation."""
    return 256 * bench.model.cache_shape.token_bytes


def reused(chunks: Sequence[Chunk]) -> int:
    statistics = chunks[-1].statistics
    assert statistics is not None
    return statistics.num_reused


def check_bounds(sizes: CacheSizes) -> None:
    assert sizes.device_bytes <= sizes.device_limit
    assert sizes.memory_bytes <= sizes.memory_limit
    assert sizes.disk_bytes <= sizes.disk_limit


# --- device and memory ----------------------------------------------------------------------------


def test_what_leaves_the_device_is_found_in_memory(bench: Bench) -> None:
    token = bench.model.cache_shape.token_bytes
    bench.scheduler.serve(bench.model, one_slot(bench), 200 * token)
    first, longer = prompt_of(60), [*prompt_of(60), 5, 6, 7]
    expected = ids_of(list(bench.ask(longer, 8, scope="")))
    list(bench.ask(first, 4, scope="1/a"))
    list(bench.ask(prompt_of(60, 1), 4, scope="1/b"))
    sizes = bench.scheduler.sizes()
    assert sizes.memory_bytes == 63 * token, "of its four tokens the last was never read"
    check_bounds(sizes)
    again = list(bench.ask(longer, 8, scope="1/a"))
    assert reused(again) == 60 and ids_of(again) == expected


def test_each_tier_stays_within_its_bytes(bench: Bench, tmp_path: Path) -> None:
    token = bench.model.cache_shape.token_bytes
    disk = DiskTier(tmp_path / "kept", "tiny", 5 * PIECE * token)
    bench.scheduler.serve(bench.model, 2 * one_slot(bench), 200 * token, disk)
    for turn in range(12):
        list(bench.ask(prompt_of(PIECE + 20, turn), 4, scope=f"user-{turn % 3}/{turn}"))
        disk.flush()
        check_bounds(bench.scheduler.sizes())
    sizes = bench.scheduler.sizes()
    assert min(sizes.device_bytes, sizes.memory_bytes, sizes.disk_bytes) > 0


def test_memory_is_not_shared_between_owners_and_forgets(bench: Bench) -> None:
    bench.scheduler.serve(bench.model, one_slot(bench), 1 << 20)
    for name in ("a", "b"):
        list(bench.ask(prompt_of(60, ord(name)), 4, scope=f"1/{name}"))
    assert bench.scheduler.sizes().memory_bytes > 0
    assert reused(list(bench.ask(prompt_of(60, ord("a")), 4, scope="2/a"))) == 0
    bench.scheduler.forget("1/a")
    bench.scheduler.forget("1/b")
    assert reused(list(bench.ask(prompt_of(60, ord("a")), 4, scope="1/a"))) == 0
    bench.scheduler.forget("1")
    bench.scheduler.forget("2")
    sizes = bench.scheduler.sizes()
    assert (sizes.device_bytes, sizes.memory_bytes) == (0, 0)


def test_a_chat_that_takes_most_of_the_device_is_not_read_again(bench: Bench) -> None:
    """Its own slot is the last to make room for its next turn."""
    bench.scheduler.serve(bench.model, 4 * one_slot(bench))
    prompt = prompt_of(600)
    reply = ids_of(list(bench.ask(prompt, 8, scope="1/a")))
    longer = [*prompt, *reply, 5, 6, 7]
    assert reused(list(bench.ask(longer, 8, scope="1/a"))) == len(prompt) + len(reply) - 1


def test_a_branch_makes_room_by_others_before_its_trunk(bench: Bench) -> None:
    bench.scheduler.serve(bench.model, 3 * one_slot(bench))
    trunk = prompt_of(200)
    list(bench.ask(trunk, 8, scope="1/a"))
    list(bench.ask(prompt_of(60, 1), 8, scope="1/b"))
    list(bench.ask(prompt_of(60, 2), 8, scope="1/c"))
    branch = list(bench.ask([*trunk[:90], 5, 6, 7], 8, scope="1/a"))
    assert reused(branch) == 90
    check_bounds(bench.scheduler.sizes())


# --- admission ------------------------------------------------------------------------------------


def test_rows_are_admitted_by_what_they_may_grow_to(bench: Bench) -> None:
    """Four rows begin small and would be 512 tokens each in the end: two at a time have room."""
    bench.scheduler.serve(bench.model, 4 * one_slot(bench))
    held: list[int] = []

    def note(_ids: Sequence[int], spans: Sequence[tuple[Slot, int]]) -> None:
        held.append(sum(slot.num_bytes for slot, _ in spans))

    bench.model.before = note
    go = bench.hold()
    streams = [bench.ask(prompt_of(30, at), 260, scope=f"{at}") for at in range(4)]
    go.set()
    assert [len(ids_of(list(stream))) for stream in streams] == [260] * 4
    assert max(held) <= 4 * one_slot(bench)
    assert max(len(each) for each in bench.model.passes) == 2


def test_nothing_is_given_up_for_a_row_that_has_to_wait(bench: Bench) -> None:
    bench.scheduler.serve(bench.model, 3 * one_slot(bench))
    kept = prompt_of(60, 1)
    list(bench.ask(kept, 4, scope="1/kept"))
    cancel, large = Event(), list[ReplyStream]()

    def on_the_way(_ids: Sequence[int], _spans: Sequence[tuple[Slot, int]]) -> None:
        if len(bench.model.passes) == 3:
            large.append(bench.ask(prompt_of(30, 5), 600, scope="3", cancel=cancel))
        if len(bench.model.passes) == 6:
            cancel.set()

    bench.model.passes.clear()
    bench.model.before = on_the_way
    assert len(ids_of(list(bench.ask(prompt_of(30), 100, scope="2")))) == 100
    assert [chunk.finish_reason for chunk in large[0]] == ["cancelled"]
    assert reused(list(bench.ask([*kept, 5, 6, 7], 4, scope="1/kept"))) == 60


# --- side jobs ------------------------------------------------------------------------------------


def test_a_side_job_never_evicts_a_chat(bench: Bench, folder: Path) -> None:
    """A guard that reads long texts beside a full cache has slots of its own."""
    bench.scheduler.serve(bench.model, 2 * one_slot(bench))
    chats = {name: prompt_of(60, ord(name)) for name in ("a", "b")}
    for name, prompt in chats.items():
        list(bench.ask(prompt, 4, scope=f"1/{name}"))
    before = bench.scheduler.sizes()
    assert before.device_bytes == before.device_limit
    guard = ReadingModel(folder, device="cpu", precision="fp32", run=bench.scheduler.aside)
    reading = guard.open("Is this safe? " * 20)
    for part in range(5):
        reading.append("and so on " * 8)
        assert len(reading.logprobs(["yes", "no"])) == 2, part
    reading.close()
    guard.close()
    assert bench.scheduler.sizes() == before
    for name, prompt in chats.items():
        assert reused(list(bench.ask([*prompt, 5, 6, 7], 4, scope=f"1/{name}"))) == 60


def test_a_side_job_without_memory_fails_alone(bench: Bench, folder: Path) -> None:
    guard = ReadingModel(folder, device="cpu", precision="fp32", run=bench.scheduler.aside)
    list(bench.ask(prompt_of(60), 4, scope="1/a"))
    before = bench.scheduler.sizes()
    stream = bench.ask(prompt_of(20, 1), 40, scope="1/b")
    reading = guard.open("Is this safe?")
    guard._model.make_room = _no_room  # type: ignore[method-assign]
    reading.append("a text")
    with pytest.raises(DeviceOutOfMemory):
        reading.logprobs(["yes", "no"])
    assert len(ids_of(list(stream))) == 40
    assert bench.scheduler.sizes().device_bytes >= before.device_bytes
    reading.close()
    guard.close()


def _no_room(_slot: Slot, num_tokens: int) -> None:
    raise DeviceOutOfMemory(f"no room for {num_tokens} tokens")


# --- faults on the way from tier to tier ----------------------------------------------------------


def test_an_answer_ends_as_ever_if_nothing_of_it_can_be_copied(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = DiskTier(tmp_path / "kept", "tiny", 1 << 30)
    bench.scheduler.serve(bench.model, one_slot(bench), 1 << 20, disk)
    expected = ids_of(list(bench.ask(prompt_of(150), 8, scope="")))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "stack", _raise)
        patch.setattr(Slot, "moved_to", _raise)
        assert ids_of(list(bench.ask(prompt_of(150), 8, scope="1/a"))) == expected
        assert len(ids_of(list(bench.ask(prompt_of(60, 1), 8, scope="1/b")))) == 8
    assert "no memory to copy" in caplog.text and "it is dropped" in caplog.text
    disk.flush()
    assert bench.scheduler.sizes().disk_bytes == 0
    list(bench.ask(prompt_of(150), 8, scope="1/a"))
    disk.flush()
    assert bench.scheduler.sizes().disk_bytes > 0, "it is written after the next turn"


def test_what_cannot_be_read_from_the_disk_for_want_of_memory_is_read_anew(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DiskTier(tmp_path / "kept", "tiny", 1 << 30)
    bench.scheduler.serve(bench.model, 1 << 22, 0, disk)
    prompt = prompt_of(3 * PIECE + 10)
    expected = ids_of(list(bench.ask(prompt, 8, scope="1/a")))
    bench.scheduler.aside(disk.flush)
    bench.scheduler.serve(bench.model, 1 << 22, 0, disk)  # as after a restart: no slot is kept
    load, done = DiskTier.load, []

    def once(self: DiskTier, *given: object) -> bool:
        done.append(given)
        if len(done) == 2:
            raise OUT_OF_MEMORY
        return load(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(DiskTier, "load", once)
    again = list(bench.ask(prompt, 8, scope="1/a"))
    assert ids_of(again) == expected and reused(again) == PIECE
    assert len(list((tmp_path / "kept").rglob("*.safetensors"))) == 3, "none was lost"


def test_a_cancel_between_pieces_of_the_disk_frees_the_row(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DiskTier(tmp_path / "kept", "tiny", 1 << 30)
    bench.scheduler.serve(bench.model, 1 << 22, 0, disk)
    prompt = prompt_of(6 * PIECE + 10)
    list(bench.ask(prompt, 2, scope="1/a"))
    bench.scheduler.aside(disk.flush)
    bench.scheduler.serve(bench.model, 1 << 22, 0, disk)
    cancel, load = Event(), DiskTier.load

    def and_cancel(self: DiskTier, *given: object) -> bool:
        cancel.set()
        return load(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(DiskTier, "load", and_cancel)
    bench.model.passes.clear()
    chunks = list(bench.ask(prompt, 8, scope="1/a", cancel=cancel))
    assert chunks[-1].finish_reason == "cancelled" and bench.model.passes == []


def test_a_copy_without_room_is_read_instead(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = prompt_of(200)
    expected = ids_of(list(bench.ask([*trunk[:60], 5, 6, 7], 8, scope="")))
    list(bench.ask(trunk, 8, scope="1/a"))

    def no_copy(_slot: Slot, length: int, room: int) -> Slot:
        raise DeviceOutOfMemory(f"no room for {room} tokens")

    monkeypatch.setattr(Slot, "copy", no_copy)
    branch = list(bench.ask([*trunk[:60], 5, 6, 7], 8, scope="1/a"))
    assert ids_of(branch) == expected and reused(branch) == 0


def test_a_draw_without_memory_ends_its_row_only(bench: Bench) -> None:
    alone = ids_of(list(bench.ask(prompt_of(20, 1), 30, scope="")))
    go = bench.hold()
    first = bench.ask(prompt_of(20), 30, scope="1")
    other = bench.ask(prompt_of(20, 1), 30, scope="2")
    draw, drawn = first._row._sampler.draw, []

    def failing(*given: object) -> object:
        drawn.append(given)
        if len(drawn) == 5:
            raise MemoryError
        return draw(*given)  # type: ignore[arg-type]

    first._row._sampler.draw = failing  # type: ignore[method-assign,assignment]
    go.set()
    got: list[int] = []
    with pytest.raises(DeviceOutOfMemory):
        for chunk in first:
            got += chunk.ids
    assert len(got) == 4, "its text stays"
    assert ids_of(list(other)) == alone


def _raise(*_given: object, **_options: object) -> object:
    raise OUT_OF_MEMORY

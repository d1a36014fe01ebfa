"""Rows that share the compute thread: order, fairness, cancelling, and what many turns leave."""

import gc
import threading
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import psutil
import pytest

from engine.base import Sampling
from engine.disk_tier import DiskTier
from engine.generate import ReplyStream
from engine.kv_cache import Slot
from engine.memory import give_back
from tests.engine.answers import ids_of
from tests.engine.scheduling import Bench, prompt_of

# --- batches --------------------------------------------------------------------------------------


def test_rows_of_a_batch_equal_their_solo_runs(bench: Bench) -> None:
    prompts = [prompt_of(length, length) for length in (3, 40, 17, 90, 5)]
    alone = [ids_of(list(bench.ask(prompt, 20, scope=""))) for prompt in prompts]
    go = bench.hold()
    bench.model.passes.clear()
    streams = [bench.ask(prompt, 20, scope="") for prompt in prompts]
    go.set()
    together = [ids_of(list(stream)) for stream in streams]
    assert together == alone
    assert max(len(each) for each in bench.model.passes) == 5, "they never shared a pass"


def test_seeded_rows_draw_the_same_alone_and_together(bench: Bench) -> None:
    options = [
        Sampling(temperature=t, top_p=p, seed=1) for t, p in ((0.8, 0.9), (1.5, 1.0), (0.0, 1.0))
    ]
    prompts = [prompt_of(12, seed) for seed in range(3)]
    alone = [
        ids_of(list(bench.ask(prompt, 16, scope="", sampling=option)))
        for prompt, option in zip(prompts, options, strict=True)
    ]
    go = bench.hold()
    streams = [
        bench.ask(prompt, 16, scope="", sampling=option)
        for prompt, option in zip(prompts, options, strict=True)
    ]
    go.set()
    assert [ids_of(list(stream)) for stream in streams] == alone


def test_each_row_of_a_batch_has_its_own_stop_string_and_limit(bench: Bench) -> None:
    text = "".join(chunk.text for chunk in bench.ask(prompt_of(12), 30, scope=""))
    stops = [text[at : at + 2] for at in (4, 9) if text[at : at + 2].isascii()]
    wanted = [(Sampling(temperature=0, stop=(stop,)), 30) for stop in stops]
    wanted += [(Sampling(temperature=0), num) for num in (1, 7, 30)]

    def ends(streams: list[ReplyStream]) -> list[tuple[str, str | None]]:
        told = [list(stream) for stream in streams]
        return [("".join(c.text for c in each), each[-1].finish_reason) for each in told]

    def asked(sampling: Sampling, num: int) -> ReplyStream:
        return bench.ask(prompt_of(12), num, scope="", sampling=sampling)

    alone = [ends([asked(*each)])[0] for each in wanted]
    go = bench.hold()
    streams = [asked(*each) for each in wanted]
    go.set()
    assert ends(streams) == alone
    assert {reason for _, reason in alone} == {"stop", "length"}
    assert len(set(alone)) == len(wanted)


def test_sixteen_rows_share_a_pass_and_the_next_wait(bench: Bench) -> None:
    go = bench.hold()
    streams = [bench.ask(prompt_of(4, at), 24, scope=f"{at}") for at in range(18)]
    go.set()
    assert [len(ids_of(list(stream))) for stream in streams] == [24] * 18
    assert max(len(each) for each in bench.model.passes) == 16


def test_a_row_joins_while_another_writes(bench: Bench) -> None:
    first = bench.ask(prompt_of(5), 120, scope="")
    begun = [next(first), next(first)]
    second = list(bench.ask(prompt_of(9, 3), 10, scope="2"))
    rest = list(first)
    assert ids_of(second) == ids_of(list(bench.ask(prompt_of(9, 3), 10, scope="")))
    assert ids_of(begun + rest) == ids_of(list(bench.ask(prompt_of(5), 120, scope="")))


def test_a_long_prompt_is_read_in_parts_while_others_write(folder: Path) -> None:
    bench = Bench(folder, chunk=64, shared_chunk=16)
    go = bench.hold()
    writer, reader = bench.ask(prompt_of(3), 60, scope="1"), bench.ask(prompt_of(200), 3, scope="2")
    go.set()
    list(writer)
    progress = [chunk.num_prefilled for chunk in reader if not chunk.ids]
    bench.scheduler.close()
    assert max(n for each in bench.model.passes for n in each) <= 64
    between = [each for each in bench.model.passes if each == [1]]
    assert len(between) >= 10, "the writer had to wait"
    assert progress == sorted(progress) and len(progress) >= 8


def test_owners_take_turns(folder: Path) -> None:
    """With room for one row, somebody's single question goes before another's second and third."""
    bench = Bench(folder, max_rows=1)
    go = bench.hold()
    busy = [bench.ask(prompt_of(4, seed), 5, scope="1/a") for seed in range(3)]
    other = bench.ask(prompt_of(4, 9), 5, scope="2/x")
    go.set()
    waits = []
    for stream in (*busy, other):
        statistics = list(stream)[-1].statistics
        assert statistics is not None
        waits.append(statistics.queue_seconds)
    bench.scheduler.close()
    assert waits[0] < waits[3] < waits[1] < waits[2]


def test_alternatives_of_one_prompt_read_it_once(folder: Path) -> None:
    bench = Bench(folder, chunk=64)
    prompt = prompt_of(180)
    go = bench.hold()
    streams = [
        bench.ask(prompt, 6, sampling=Sampling(temperature=1.0, seed=seed)) for seed in range(4)
    ]
    go.set()
    answers = [list(stream) for stream in streams]
    read = sum(n for each in bench.model.passes for n in each if n > 1)
    alone = [
        ids_of(list(bench.ask(prompt, 6, scope="", sampling=Sampling(temperature=1.0, seed=seed))))
        for seed in range(4)
    ]
    bench.scheduler.close()
    assert read == 180
    assert [ids_of(answer) for answer in answers] == alone
    reused = [a[-1].statistics.num_reused for a in answers if a[-1].statistics is not None]
    assert reused == [0, 179, 179, 179]


def test_a_conversation_forgotten_while_it_is_written_leaves_nothing(bench: Bench) -> None:
    stream = bench.ask(prompt_of(40), 60, scope="1/gone")
    next(stream)
    bench.scheduler.forget("1/gone")
    assert len(ids_of(list(stream))) >= 58
    assert bench.scheduler.sizes().device_bytes == 0


# --- cancelling and slow readers ------------------------------------------------------------------


def test_cancel_ends_a_row_within_one_step(bench: Bench) -> None:
    cancel, seen = Event(), []

    def cancel_at_tenth(ids: Sequence[int], spans: Sequence[tuple[Slot, int]]) -> None:
        seen.append(len(ids))
        if len(seen) == 10:
            cancel.set()

    bench.model.before = cancel_at_tenth
    chunks = list(bench.ask(prompt_of(5), 100, cancel=cancel))
    assert chunks[-1].finish_reason == "cancelled"
    assert len(seen) == 10 and len(ids_of(chunks)) == 10


def test_cancel_is_read_between_parts_of_a_prompt(folder: Path) -> None:
    bench = Bench(folder, chunk=16)
    cancel = Event()
    bench.model.before = lambda _ids, _spans: cancel.set()
    chunks = list(bench.ask(prompt_of(200), 5, cancel=cancel))
    bench.scheduler.close()
    assert chunks[-1].finish_reason == "cancelled"
    assert bench.model.passes == [[16]] and ids_of(chunks) == []


def test_a_waiting_row_can_be_cancelled(folder: Path) -> None:
    bench = Bench(folder, max_rows=1)
    first, cancel = bench.ask(prompt_of(5), 200), Event()
    next(first)
    second = bench.ask(prompt_of(6), 5, cancel=cancel)
    cancel.set()
    assert [chunk.finish_reason for chunk in second] == ["cancelled"]
    first.close()
    bench.scheduler.close()


def test_a_dropped_stream_frees_its_row(bench: Bench) -> None:
    stream = bench.ask(prompt_of(5), 240)
    next(stream)
    del stream
    list(bench.ask(prompt_of(6), 2))
    num = len(bench.model.passes)
    bench.scheduler.aside(lambda: None)
    assert len(bench.model.passes) == num, "the dropped row still computes"


def test_a_reader_that_never_reads_holds_nobody_up(bench: Bench) -> None:
    idle = bench.ask(prompt_of(5), 60)
    busy = list(bench.ask(prompt_of(6), 60))
    assert len(ids_of(busy)) == 60
    assert len(ids_of(list(idle))) == 60  # and what it did not read is all there


def test_what_a_cancelled_row_has_read_is_kept(bench: Bench) -> None:
    cancel = Event()
    stream = bench.ask(prompt_of(40), 100, cancel=cancel)
    got = ids_of([next(stream) for _ in range(5)])
    cancel.set()
    got += ids_of(list(stream))
    again = list(bench.ask([*prompt_of(40), *got, 11, 12], 2))
    assert again[-1].statistics is not None
    assert again[-1].statistics.num_reused == 40 + len(got) - 1


# --- side jobs ------------------------------------------------------------------------------------


def test_side_jobs_run_on_the_compute_thread_between_steps(bench: Bench) -> None:
    stream = bench.ask(prompt_of(5), 200)
    next(stream)
    assert bench.scheduler.aside(lambda: threading.current_thread().name) == "corral-compute"
    assert bench.scheduler.aside(lambda: bench.scheduler.aside(lambda: 7)) == 7
    assert len(ids_of(list(stream))) >= 198


def test_a_side_job_that_fails_fails_for_its_caller_alone(bench: Bench) -> None:
    stream = bench.ask(prompt_of(5), 20)
    with pytest.raises(ZeroDivisionError):
        bench.scheduler.aside(lambda: 1 / 0)
    assert len(ids_of(list(stream))) == 20


class Midway(Event):
    """Cancels in the middle of sixty tokens, however fast they come: it is looked at for each."""

    def __init__(self) -> None:
        super().__init__()
        self._looks = 40

    def is_set(self) -> bool:
        self._looks -= 1
        return self._looks < 0


def check_soak(folder: Path, kept: Path, num_turns: int) -> list[int]:
    """Short turns of several people, cancelled now and then, some forgotten: nothing piles up.

    Returns resident bytes after each tenth.
    """
    bench = Bench(folder)
    shape = bench.model.cache_shape
    budget, disk_bytes = 6 * 256 * shape.token_bytes, 1 << 19
    disk = DiskTier(kept, "soak", disk_bytes)
    bench.scheduler.serve(bench.model, budget, 200 * shape.token_bytes, disk)
    resident = []
    for turn in range(num_turns):
        num_new, cancel = (60, Midway()) if turn % 5 == 0 else (5, Event())
        prompt = prompt_of(20 + 13 * turn % 160, turn)
        scope = f"user-{turn % 7}/{turn % 50}"
        chunks = list(bench.ask(prompt, num_new, scope=scope, cancel=cancel))
        assert chunks[-1].finish_reason == ("cancelled" if turn % 5 == 0 else "length")
        if turn % 11 == 0:
            bench.scheduler.forget(scope)
        if (turn + 1) % (num_turns // 10) == 0:
            give_back()
            resident.append(psutil.Process().memory_info().rss)
    disk.flush()
    sizes = bench.scheduler.sizes()
    slots = [each for each in gc.get_objects() if type(each) is Slot and each.shape is shape]
    num_slots = sum(slot.capacity > 0 for slot in slots if slot.capacity % 256 == 0)
    bench.scheduler.close()
    assert 0 < sizes.device_bytes <= budget
    assert 0 < sizes.memory_bytes <= sizes.memory_limit and 0 < sizes.disk_bytes <= disk_bytes
    assert num_slots == sizes.device_bytes // (256 * shape.token_bytes)
    return resident


def test_many_short_turns_leave_nothing_behind(folder: Path, tmp_path: Path) -> None:
    check_soak(folder, tmp_path, 100)


@pytest.mark.full
def test_ten_thousand_short_turns(folder: Path, tmp_path: Path) -> None:
    resident = check_soak(folder, tmp_path, 10_000)
    assert max(resident[-3:]) - min(resident[1:4]) < 8 << 20

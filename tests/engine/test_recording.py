"""How a step is recorded as a CUDA graph: the calls of torch, in order, without a GPU.

What the calls do on one is seen by `test_cuda_graphs.py` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from engine import recording
from engine.recording import CudaRecorder

GPU = torch.device("cuda", 0)


@dataclass
class Stream:
    name: str
    cuda: Cuda

    def wait_stream(self, other: Stream) -> None:
        self.cuda.calls.append(f"{self.name} waits for {other.name}")


class Captured:
    """`torch.cuda.CUDAGraph`, which counts how often it is replayed."""

    num_replayed = 0

    def replay(self) -> None:
        self.num_replayed += 1

    def pool(self) -> str:
        return "a pool"


@dataclass
class Cuda:
    """The part of `torch.cuda` that is used, writing down what is asked of it."""

    calls: list[str] = field(default_factory=list)
    pools: list[str | None] = field(default_factory=list)
    free: int = 1000

    def __post_init__(self) -> None:
        self.current = Stream("main", self)

    def CUDAGraph(self) -> Captured:
        return Captured()

    def Stream(self, _device: torch.device) -> Stream:
        return Stream("side", self)

    def current_stream(self, _device: torch.device) -> Stream:
        return self.current

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Captured, *, pool: Any, stream: Stream, **how: str) -> Iterator[None]:
        """As the real one: where recording fails, the side stream stays the current one."""
        assert how == {"capture_error_mode": "thread_local"}
        self.pools.append(pool)
        self.calls.append("begins")
        before, self.current = self.current, stream
        yield
        self.current = before
        self.calls.append("ends")
        self.free -= 300

    def synchronize(self, _device: torch.device) -> None:
        self.calls.append("synchronizes")

    def empty_cache(self) -> None:
        self.calls.append("empties")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    made = Cuda()
    monkeypatch.setattr(torch, "cuda", made)
    monkeypatch.setattr(recording, "free_bytes", lambda _device: made.free)
    return made


def work_on(cuda: Cuda) -> Tensor:
    cuda.calls.append(f"works on {cuda.current.name}")
    return torch.zeros(1)


def test_work_is_warmed_up_and_recorded_beside_the_usual_stream(cuda: Cuda) -> None:
    made = CudaRecorder(GPU).record(lambda: work_on(cuda))
    assert cuda.calls == [
        "side waits for main",
        "works on side",
        "main waits for side",
        "synchronizes",
        "empties",
        "begins",
        "works on side",
        "ends",
    ]
    assert made.num_bytes == 300 and cuda.current.name == "main"


def test_a_replay_gives_what_was_recorded_and_works_no_more(cuda: Cuda) -> None:
    results: list[Tensor] = []

    def work() -> Tensor:
        results.append(work_on(cuda))
        return results[-1]

    made = CudaRecorder(GPU).record(work)
    cuda.calls.clear()
    assert made.replay() is made.replay() is results[1]
    assert cuda.calls == []


def test_recordings_that_are_kept_lend_their_memory(cuda: Cuda) -> None:
    recorder = CudaRecorder(GPU)
    first = recorder.record(lambda: work_on(cuda))
    second = recorder.record(lambda: work_on(cuda))
    del first, second
    third = recorder.record(lambda: work_on(cuda))
    assert cuda.pools == [None, "a pool", None], "a pool is gone with the last that is kept"
    assert third.num_bytes == 300


def test_a_failed_recording_leaves_the_usual_stream(cuda: Cuda) -> None:
    def work() -> Tensor:
        if "begins" in cuda.calls:
            raise RuntimeError("operation not permitted when stream is capturing")
        return work_on(cuda)

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaRecorder(GPU).record(work)
    assert cuda.current.name == "main"


def test_time_ends_when_the_device_is_done(cuda: Cuda) -> None:
    result, seconds = CudaRecorder(GPU).timed(lambda: work_on(cuda))
    assert cuda.calls == ["synchronizes", "works on main", "synchronizes"]
    assert result.numel() == 1 and seconds >= 0

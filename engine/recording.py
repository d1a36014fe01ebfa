"""Work on a device recorded once and done again: torch's CUDA graphs, behind a small seam.

What a recording does is what was launched while it was made: the same kernels on the same memory,
without Python between them. The seam is there so that a CPU can play it: everything above it is
tested there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakSet

import torch
from torch import Tensor

from engine.device import free_bytes

Work = Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Recording:
    """`replay` does the work again → where its result lies until the next replay."""

    replay: Work
    num_bytes: int  # of the device that it takes while it is kept


class Recorder(Protocol):
    """Records work for one device. Owned by one thread."""

    def record(self, work: Work) -> Recording:
        """Do `work`, and record it; it is not kept.

        What it reads and writes besides its own results must stay where it is as long as the
        recording is replayed. Raises whatever the device does not allow.
        """
        ...

    def timed(self, work: Work) -> tuple[Tensor, float]:
        """Do `work` → its result, and the seconds until the device had it."""
        ...


def recorder_for(device: torch.device) -> Recorder | None:
    """What records there; None where launching kernels costs little, or nothing can be recorded."""
    return CudaRecorder(device) if device.type == "cuda" else None


class CudaRecorder:
    """`Recorder` by CUDA graphs. They share a pool of memory: only one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._kept: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def record(self, work: Work) -> Recording:
        """See `Recorder`."""
        main, graph = torch.cuda.current_stream(self._device), torch.cuda.CUDAGraph()
        pool = next((kept.pool() for kept in self._kept), None)  # of none it makes a new one
        with torch.cuda.stream(main):  # which is the current one again, even if recording fails
            self._side.wait_stream(main)
            with torch.cuda.stream(self._side):
                work()  # libraries take their memory before, not while they are recorded
            main.wait_stream(self._side)
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()
            free = free_bytes(self._device)
            with torch.cuda.graph(
                graph, pool=pool, stream=self._side, capture_error_mode="thread_local"
            ):
                result = work()
        self._kept.add(graph)

        def replay() -> Tensor:
            graph.replay()
            return result

        return Recording(replay, max(0, free - free_bytes(self._device)))

    def timed(self, work: Work) -> tuple[Tensor, float]:
        """See `Recorder`."""
        torch.cuda.synchronize(self._device)
        began = time.perf_counter()
        result = work()
        torch.cuda.synchronize(self._device)
        return result, time.perf_counter() - began

"""A GPU's recordings, played on the CPU: the operations of torch that some work did, done again.

As with CUDA graphs no Python of the work runs at a replay: every number that was no tensor is baked
in, and results go to the memory where they lay when the work was recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.llama import Llama
from engine.plans import Plan
from engine.recording import Recording, Work


class Tape(TorchDispatchMode):
    """Writes down what is done inside of it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # there is none to skip; to skip it, torch would import it for seconds

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._steps.append((func, args, kwargs or {}, result))
        return result

    def play(self) -> None:
        for func, args, kwargs, result in self._steps:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class TapeRecorder:
    """`engine.recording.Recorder`, as a test wishes it to be."""

    def __init__(self) -> None:
        self.num_recorded = self.num_replayed = 0
        self.num_bytes = 1 << 20  # of each recording
        self.replay_seconds = 0.5  # an ordinary pass takes 1
        self.before: Callable[[], None] = lambda: None  # a step is recorded
        self.after: Callable[[Tensor], Tensor] = lambda logits: logits  # a replay

    def record(self, work: Work) -> Recording:
        self.before()
        self.num_recorded += 1
        work()
        with Tape() as tape:
            result = work()

        def replay() -> Tensor:
            self.num_replayed += 1
            tape.play()
            return self.after(result)

        return Recording(replay, self.num_bytes)

    def timed(self, work: Work) -> tuple[Tensor, float]:
        before = self.num_replayed
        result = work()
        return result, self.replay_seconds if self.num_replayed > before else 1.0


def by_torch(model: Llama) -> Llama:
    """`model` without the own kernels, which are none of torch's operations."""
    for matrix in model.matrices():
        matrix.stored, matrix.plan = None, Plan()
    return model

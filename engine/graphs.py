"""Decode steps recorded once and replayed: a GPU then waits neither for Python nor for launches.

A step of one token launches hundreds of small kernels, each later than the GPU could begin it. A
recording is bound to the rows it was made for, to where their slots lie, and to how far they look
(`window_for`). It is made after some steps of the same rows, so that short replies never pay for
it, on the compute thread: a step that is recorded does the work of four (to warm up, to record, to
replay, to compare), and all rows wait for it. It serves as long as the slots stay where they are: a
slot that grew, was freed or was moved makes it void.

The first steps of a recording are done both ways. If the replay computes other numbers, or if
anything fails, nothing is recorded any more and `told` says why; a recording that is not faster
is dropped. What stays as it was: prompts, guesses, rows with adapters, models in several places.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.attention import Fixed
from engine.device import is_out_of_memory
from engine.kv_cache import FIRST_BUCKET, Slot, from_int8
from engine.recording import Recorder

if TYPE_CHECKING:
    from engine.llama import Llama

log = logging.getLogger(__name__)

# Steps of the same rows before they are recorded, and steps that a recording must serve to be worth
# its making. After one that was not the next rows wait twice as long.
PATIENCE = 8
MOST_PATIENCE = 64
CHECKS = 2  # first steps of a recording that are done both ways: a place baked in fails the second
TRIALS = 2  # recordings that must be no faster before none like them is made: others compute too
MOST_KEPT = 32  # recordings; twice as many rows as write at once
MOST_BYTES = 256 << 20  # of the device, for all of them
REST = 1024  # steps without recording after memory ran out
_MOST_WAITING = 64  # sets of rows whose steps are counted

# Of each row, in order: where its keys and values lie, and what its rotations are scaled for.
Rows = tuple[tuple[int, int], ...]


def window_for(num_tokens: int) -> int:
    """How far to look for `num_tokens`: 256 at least, and at most a quarter farther than needed.

    Four steps to each doubling, so that long replies are recorded anew ever more rarely.
    """
    step = max(FIRST_BUCKET, (1 << (num_tokens - 1).bit_length()) // 8)
    return -(-num_tokens // step) * step


def difference(numbers: Tensor, expected: Tensor) -> float:
    """The greatest one, relative to the largest that is expected; infinite if one is no number."""
    if not (torch.isfinite(numbers).all() and torch.isfinite(expected).all()):
        return float("inf")
    scale = expected.abs().max().clamp_min(1e-6)
    return float((numbers - expected).abs().max() / scale)


class Memory:
    """Where the keys and values of some slots lie, without holding them there."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._layers = [weakref.ref(slot.layers[0]) for slot in slots]

    def is_of(self, slots: Sequence[Slot]) -> bool:
        """Whether those of `slots` lie there now: what is new may get the place of what is gone."""
        pairs = zip(slots, self._layers, strict=True)
        return all(slot.layers[0] is layer() for slot, layer in pairs)

    @property
    def is_gone(self) -> bool:
        """Whether any of it was freed."""
        return any(layer() is None for layer in self._layers)


class Graph:
    """One recorded step: a token for each of some slots, which look as far as `window`."""

    def __init__(
        self, model: Llama, slots: Sequence[Slot], window: int, recorder: Recorder
    ) -> None:
        """Record it. Nothing of the slots is held: their memory goes when its owners let it go."""
        self.window = window
        self.memory = Memory(slots)
        self._inputs = torch.zeros(2, len(slots), dtype=torch.long, device=model.device)
        rotary = model.rotary  # which makes new tables for longer texts: these ones are kept here
        self._tables = tables = [
            rotary.table(min(window, slot.stretch or window), slot.stretch) for slot in slots
        ]
        ids, places = self._inputs
        self._fill([0] * len(slots), slots)

        def work() -> Tensor:
            step = Fixed.of(slots, places, tables, window, model.score_dtype)
            return model.read_fixed(ids, step)

        self._recording = recorder.record(work)
        self.num_bytes = self._recording.num_bytes
        self.num_checked = self.num_steps = 0

    def step(self, ids: Sequence[int], slots: Sequence[Slot]) -> Tensor:
        """The logits (rows, V) after `ids`, a token for each slot."""
        self.num_steps += 1
        self._fill(ids, slots)
        return self._recording.replay().clone()

    def _fill(self, ids: Sequence[int], slots: Sequence[Slot]) -> None:
        self._inputs.copy_(torch.tensor([list(ids), [slot.length for slot in slots]]))


class Graphs:
    """The recorded steps of one model. Owned by the compute thread."""

    def __init__(self, model: Llama, recorder: Recorder, tolerance: float) -> None:
        """A replay may differ by `tolerance` from a pass that is not recorded: see `difference`."""
        self._model, self._recorder, self._tolerance = model, recorder, tolerance
        self._kept: OrderedDict[tuple[Rows, int], Graph] = OrderedDict()
        self._waiting: OrderedDict[Rows, tuple[Memory, int]] = OrderedDict()  # steps without one
        self._vain: Counter[tuple[int, int]] = Counter()  # by how many rows, and the window
        self._latest: Graph | None = None
        self._patience = PATIENCE
        self._rest = 0
        self._fault = ""
        self._serves = False

    @property
    def given_up(self) -> str:
        """Why nothing is recorded any more, in sentences for the owner; "" if something may be."""
        return self._fault and (
            f"Answers are written without CUDA graphs, slower than they could be: {self._fault}. "
            "Update the graphics driver, then load the model again."
        )

    @property
    def told(self) -> str:
        """How decoding runs, in a sentence; "" before that is known."""
        if self._fault:
            return self.given_up
        if self._serves:
            return "Decoding replays CUDA graphs."
        return "Decoding in CUDA graphs was no faster than without." if self._vain else ""

    @property
    def serves(self) -> bool:
        """Whether a recording was seen to compute the same, and faster."""
        return self._serves and not self._fault

    @property
    def num_kept(self) -> int:
        """Recordings that are kept."""
        return len(self._kept)

    def __call__(self, ids: Sequence[int], slots: Sequence[Slot]) -> Tensor:
        """Read a token into each slot → logits (rows, V), float32; does not lengthen the slots."""
        rows = tuple((id(slot.layers[0]), slot.stretch) for slot in slots)
        window = window_for(1 + max(slot.length for slot in slots))
        try:
            graph = self._found(rows, window, slots)
            if graph is None and self._is_time(rows, window, slots):
                graph = self._recorded(rows, window, slots)
            if graph is not None and graph.num_checked < CHECKS:
                return self._checked(rows, graph, ids, slots)
            if graph is not None:
                return graph.step(ids, slots)
        except Exception as error:  # whatever a driver does not like
            self._fail(error)
        return self._read(ids, slots)

    def give_up(self) -> bool:
        """Free the memory of all recordings, and make none for a while → whether there were any."""
        had_any = bool(self._kept)
        self._kept.clear()
        self._latest = None
        self._waiting.clear()
        self._rest = REST
        return had_any

    def _read(self, ids: Sequence[int], slots: Sequence[Slot]) -> Tensor:
        return self._model.read(ids, [(slot, 1) for slot in slots])

    def _found(self, rows: Rows, window: int, slots: Sequence[Slot]) -> Graph | None:
        graph = self._kept.get((rows, window))
        if graph is None or not graph.memory.is_of(slots):
            return None
        self._kept.move_to_end((rows, window))
        return graph

    def _is_time(self, rows: Rows, window: int, slots: Sequence[Slot]) -> bool:
        """Whether to record a step of `rows`, which could not be replayed."""
        if self._fault or self._vain[len(rows), window] >= TRIALS:
            return False
        if self._rest:
            self._rest -= 1
            return False
        memory, num = self._waiting.pop(rows, (None, 0))
        if memory is None or not memory.is_of(slots):
            memory, num = Memory(slots), 0
        self._waiting[rows] = memory, num + 1
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)
        return num >= self._patience

    def _recorded(self, rows: Rows, window: int, slots: Sequence[Slot]) -> Graph | None:
        """A new recording; those that are void go, then within the bounds those used last stay."""
        if self._latest is not None:
            paid = self._latest.num_steps >= PATIENCE
            self._patience = PATIENCE if paid else min(2 * self._patience, MOST_PATIENCE)
        self._latest = graph = Graph(self._model, slots, window, self._recorder)
        if graph.num_bytes > MOST_BYTES:
            self._drop(rows, window, TRIALS)
            return None
        for key in [key for key, kept in self._kept.items() if kept.memory.is_gone]:
            del self._kept[key]
        self._kept[rows, window] = graph
        while len(self._kept) > MOST_KEPT or self._num_bytes > MOST_BYTES:
            (others, _), _ = self._kept.popitem(last=False)
            self._waiting.pop(others, None)  # they wait again
        return graph

    @property
    def _num_bytes(self) -> int:
        return sum(graph.num_bytes for graph in self._kept.values())

    def _checked(
        self, rows: Rows, graph: Graph, ids: Sequence[int], slots: Sequence[Slot]
    ) -> Tensor:
        """A step both ways: what stays is that of the pass which is not recorded."""
        for slot in slots:  # so that what is hidden is finite, and a replay must write its own
            for layer in slot.layers:
                layer[:, slot.length : graph.window] = 0
        replayed, replay_seconds = self._recorder.timed(lambda: graph.step(ids, slots))
        left = _latest(slots)
        logits, seconds = self._recorder.timed(lambda: self._read(ids, slots))
        error = max(difference(replayed, logits), difference(left, _latest(slots)))
        graph.num_checked += 1
        if error > self._tolerance:
            self._stop(f"a replay computed other numbers (by {error:.2g} of the largest)")
        elif graph.num_checked == CHECKS:  # the first one was slowed by the device's own preparing
            self._serves = self._serves or replay_seconds < seconds
            if replay_seconds >= seconds:
                self._drop(rows, graph.window)
        return logits

    def _drop(self, rows: Rows, window: int, num_trials: int = 1) -> None:
        """Do without a recording that did not pay; they begin to wait for another."""
        self._vain[len(rows), window] += num_trials
        self._kept.pop((rows, window), None)
        self._waiting.pop(rows, None)
        self._latest = None

    def _fail(self, error: Exception) -> None:
        if _tells_of_memory(error):
            log.warning("no memory to record a step: none is recorded for a while")
            self.give_up()
        else:
            log.warning("a recorded step failed", exc_info=error)
            self._stop(f"{type(error).__name__}, {str(error).partition(chr(10))[0]}")

    def _stop(self, fault: str) -> None:
        self._fault = fault.rstrip(".")
        self._kept.clear()
        self._latest = None
        log.warning(self.told)


def _latest(slots: Sequence[Slot]) -> Tensor:
    """What the token behind the end of each slot left in its layers, float32 (…, 2G, D)."""
    entries = torch.stack([layer[:, slot.length] for slot in slots for layer in slot.layers])
    return from_int8(entries, torch.float32) if entries.dtype == torch.int8 else entries.float()


def _tells_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out at first, whatever failed in consequence."""
    while error is not None and not is_out_of_memory(error):
        error = error.__cause__ or error.__context__
    return error is not None

"""How many threads a step takes: measured while running, because the machine is never ours alone.

A parallel region ends when its slowest thread does. If a browser or a compiler takes one of the
cores, a step with a thread for each waits for the scheduler's time slices: on two cores that were
shared with other programs, one thread wrote 4.5 tokens/s where two wrote 0.7. Alone it is the other
way round for all but tiny models. So every now and then a few steps are done with another number
of threads, and the fastest is kept.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from engine.device import choose_threads

# Steps with one number of threads in a trial; the first, in which threads wake up, is not counted.
TRIAL_STEPS = 4
# Steps between trials: what a bad choice costs in a trial stays below a few percent.
SETTLED_STEPS = 96
# A choice that took this long for two steps or three is not measured further.
_SLOW_SECONDS = 0.3
# A choice that was this many times slower than the best is tried in every eighth trial only.
_HOPELESS = 2.5
_SKIPPED_TRIALS = 8
_WARM_UP_SECONDS = 1.0


def thread_choices(chosen: int | None = None, most: int | None = None) -> tuple[int, ...]:
    """Numbers of threads worth trying: the `chosen` one alone, else `most` and its halves.

    `most` is by default what makes sense on this machine.
    """
    if chosen:
        return (chosen,)
    choices = [most or choose_threads()]
    while choices[-1] > 1:
        choices.append(choices[-1] // 2)
    return tuple(choices)


class Pace:
    """Chooses among numbers of threads by the time of recent steps."""

    def __init__(self, choices: Sequence[int]) -> None:
        """`choices`: the usual one first; a single one is never questioned."""
        self._choices = tuple(choices)
        self._seconds: dict[int, float] = {}  # the latest median per choice
        self._trial: list[int] = list(self._choices) if len(self._choices) > 1 else []
        self._samples: list[float] = []
        self._num_trials = self._since_trial = 0
        self.threads = self._choices[0]

    @property
    def settled(self) -> bool:
        """Whether no trial is going on."""
        return not self._trial

    def begin_with(self, threads: int) -> None:
        """Try `threads` first: what another kind of step found best."""
        if threads in self._trial and not self._samples:
            self._trial.remove(threads)
            self._trial.insert(0, threads)
            self.threads = threads

    def record(self, seconds: float) -> None:
        """Note how long the step took that was done with `threads`; this may change `threads`."""
        if not self._trial:
            self._since_trial += 1
            if len(self._choices) > 1 and self._since_trial >= SETTLED_STEPS:
                self._begin_trial()
            return
        self._samples.append(seconds)
        slow = len(self._samples) > 1 and sum(self._samples) > _SLOW_SECONDS
        if len(self._samples) < TRIAL_STEPS and not slow:
            return
        self._seconds[self.threads] = statistics.median(self._samples[1:])
        self._samples = []
        self._trial.remove(self.threads)
        if self._trial:
            self.threads = self._trial[0]
        else:
            self._since_trial = 0
            self.threads = min(self._seconds, key=lambda count: self._seconds[count])

    def _begin_trial(self) -> None:
        """Measure the present choice again, then those that have a chance."""
        self._num_trials += 1
        limit = _HOPELESS * self._seconds[self.threads]
        everything = self._num_trials % _SKIPPED_TRIALS == 0
        others = [
            count
            for count in self._choices
            if count != self.threads and (everything or self._seconds[count] < limit)
        ]
        self._trial = [self.threads, *others]


class Paces:
    """The paces of reading and of writing, which suit different numbers of threads."""

    def __init__(self, choices: Sequence[int]) -> None:
        """`choices` as of `Pace`; none given leaves torch's own number."""
        self._first = choices[0] if choices else 0
        usual = choices or (torch.get_num_threads(),)
        self.reading, self.writing = Pace(usual), Pace(usual)

    def begin(self) -> None:
        """Take the usual number on this thread."""
        if self._first:
            torch.set_num_threads(self._first)

    def warm_up(self, step: Callable[[], None]) -> None:
        """Find the number of threads to begin with, by decode steps that nobody sees."""
        until = time.perf_counter() + _WARM_UP_SECONDS
        while not self.writing.settled and time.perf_counter() < until:
            with self.timed(self.writing):
                step()
        self.reading.begin_with(self.writing.threads)

    @contextmanager
    def timed(self, pace: Pace | None, num_tokens: int = 1) -> Iterator[None]:
        """Run a pass with as many threads as `pace` says, and tell it the time per token."""
        if pace is None or not self._first:
            yield
            return
        if torch.get_num_threads() != pace.threads:
            torch.set_num_threads(pace.threads)
        began = time.perf_counter()
        yield
        pace.record((time.perf_counter() - began) / num_tokens)

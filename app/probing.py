"""The self-test of the guard: labelled texts judged in the background, two runs side by side.

The texts are Corral's own, or published sets in a folder of this machine. The second run is another
policy over the same judgements, or another guard over the same texts. Nothing is kept: the report
lives in memory until the next run, and whoever wants it takes it as a file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Literal

from safety.base import Guard
from safety.benchmark import Judged, judge_all, under
from safety.datasets import read_folder
from safety.policy import PRESETS, Policy
from safety.probes import FOLDER, Probe
from safety.report import Run

log = logging.getLogger("corral.probing")

State = Literal["idle", "running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class ProbingView:
    """How far it is. `error` says why it failed."""

    state: State = "idle"
    num_done: int = 0
    num_total: int = 0
    runs: tuple[Run, ...] = ()
    error: Exception | None = None


class Probing:
    """One self-test at a time. Safe to call from several threads."""

    def __init__(self, load_other: Callable[[str], Guard], closing: Event) -> None:
        """`load_other` opens a guard that does not judge here: a folder or an address."""
        self._load_other = load_other
        self._closing = closing
        self._stopped = Event()
        self._lock = Lock()
        self._view = ProbingView()

    def view(self) -> ProbingView:
        """How far it is. Does not block."""
        return self._view

    def start(self, guard: Guard, policy: Policy, *, place: str = "", beside: str = "") -> bool:
        """Begin; false if one runs already. Returns at once.

        `place` is a file or a folder, Corral's own texts if empty; `beside` names a policy, or a
        guard by its folder or address.
        """
        with self._lock:
            if self._view.state == "running":
                return False
            self._stopped.clear()
            self._view = ProbingView("running")
        work = Thread(
            target=self._work, args=(guard, policy, place, beside), name="probing", daemon=True
        )
        work.start()
        return True

    def stop(self) -> None:
        """End it; what was judged so far is reported."""
        self._stopped.set()

    def _work(self, guard: Guard, policy: Policy, place: str, beside: str) -> None:
        try:
            probes = texts_in(place)
            other = None if beside in ("", *PRESETS) else self._load_other(beside)
            self._view = ProbingView("running", 0, len(probes) * (2 if other else 1))
            judged = self._judged(guard, policy, probes)
            runs = [Run(guard.name, guard.version, policy.name, judged)]
            if other is not None:
                judged = self._judged(other, policy, probes[: len(judged)])
                runs.append(Run(other.name, other.version, policy.name, judged))
            elif beside:
                second = next(one for name, one in PRESETS.items() if name == beside)
                judged = under(judged, second)
                runs.append(replace(runs[0], policy=second.name, judged=judged))
            state: State = "done" if runs[0].judged else "idle"
            self._view = replace(self._view, state=state, runs=tuple(runs))
        except Exception as error:  # told on the page
            log.warning("the self-test ended with %s", type(error).__name__)
            self._view = ProbingView("failed", error=error)

    def _judged(self, guard: Guard, policy: Policy, probes: Sequence[Probe]) -> list[Judged]:
        return judge_all(guard, policy, self._counted(probes))

    def _counted(self, probes: Sequence[Probe]) -> Iterator[Probe]:
        for probe in probes:
            if self._stopped.is_set() or self._closing.is_set():
                return
            yield probe
            self._view = replace(self._view, num_done=self._view.num_done + 1)


def texts_in(place: str) -> list[Probe]:
    """Labelled texts of a file or folder, or Corral's own. Raises `ProbesInvalid`."""
    places = [Path(place).expanduser()] if place else sorted(FOLDER.glob("*.jsonl"))
    return [probe for one in places for probe in read_folder(one)]

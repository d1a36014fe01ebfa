"""A stored answer computed once more, to see whether the same comes out.

The record of an answer holds all that it was made from: the messages before it, the system prompt,
the sampling and the seed. In fp32 on one machine the same tokens must come. Elsewhere kernels round
differently from run to run; then the first token that differs is named, and how close the two were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread
from typing import Literal

from app.context import as_messages
from engine.base import Engine, Message, Prompt, Sampling, TokenLogprob
from engine.errors import EngineError, SamplingInvalid
from storage.records import Generation, MessageRecord

State = Literal["running", "same", "differs", "other_model", "nothing", "failed"]
_NUM_ALTERNATIVES = 20  # to find the stored token among, where another one came


@dataclass(frozen=True, slots=True)
class Replay:
    """How far a replay is, or what it found. `at` counts tokens of the run from 0.

    `margin` is by how much the token that came now was likelier than the stored one, in nats; None
    where the stored one is not among the likely ones any more.
    """

    state: State
    num_same: int = 0
    num_all: int = 0
    now: str = ""
    margin: float | None = None
    prompt_changed: bool = False


def as_read(path: Sequence[MessageRecord], run: Generation) -> list[Message]:
    """What the model read for a stored run. `path` is root to prompt."""
    head: list[Message] = []
    if run.system_prompt:
        head.append({"role": "system", "content": run.system_prompt})
    return head + as_messages(path[run.num_left_out :], run.fingerprint)


class Replays:
    """One replay at a time, on a thread of its own; the last ones are remembered."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: dict[int, Replay] = {}
        self._running: int | None = None

    def of(self, reply_id: int) -> Replay | None:
        """What is known of a reply's replay."""
        with self._lock:
            return self._found.get(reply_id)

    def start(
        self, engine: Engine, path: Sequence[MessageRecord], reply: MessageRecord, *, cancel: Event
    ) -> bool:
        """Begin to compute `reply` again; False while another one is computed. Does not block.

        `path` is root to prompt. Runs until it differs, is done or `cancel` is set.
        """
        with self._lock:
            if self._running is not None:
                return False
            self._running = reply.id
            self._found[reply.id] = Replay("running")
            while len(self._found) > 50:
                self._found.pop(next(iter(self._found)))

        def run() -> None:
            try:
                found = self._compare(engine, path, reply, cancel)
            except EngineError:
                found = Replay("failed")
            except BaseException:
                found = Replay("failed")
                raise
            finally:
                with self._lock:
                    self._running = None
                    self._found[reply.id] = found

        Thread(target=run, name=f"replay-{reply.id}", daemon=True).start()
        return True

    def _compare(
        self,
        engine: Engine,
        path: Sequence[MessageRecord],
        reply: MessageRecord,
        cancel: Event,
    ) -> Replay:
        def tell(num_same: int, num_all: int) -> None:
            with self._lock:
                self._found[reply.id] = Replay("running", num_same, num_all)

        return compared(engine, path, reply, cancel=cancel, tell=tell)


def compared(
    engine: Engine,
    path: Sequence[MessageRecord],
    reply: MessageRecord,
    *,
    cancel: Event,
    tell: Callable[[int, int], None] = lambda _same, _all: None,
) -> Replay:
    """Compute the last run of `reply` again and compare token by token. Raises `EngineError`."""
    run = reply.generations[-1]
    stored = run.token_ids[run.num_given :]
    if engine.info().fingerprint != run.fingerprint:
        return Replay("other_model")
    if not stored:
        return Replay("nothing")
    ends = run.finish_reason == "stop"
    sampling = replace(
        read_sampling(run.sampling),
        seed=run.seed,
        num_logprobs=_NUM_ALTERNATIVES,
        max_new_tokens=len(stored) + (1 if ends else 0),
    )
    earlier = [token for other in reply.generations[:-1] for token in other.token_ids]
    prompt = Prompt(
        messages=as_read(path, run),
        reply_prefix=reply.content[: run.from_char],
        reply_ids=[*earlier, *run.token_ids[: run.num_given]],
    )
    num_same, changed = 0, False
    # No scope: nothing is taken from the cache, and nothing is kept there.
    for chunk in engine.stream(prompt, sampling, cancel=cancel, scope=""):
        changed = changed or (chunk.num_prompt not in (0, run.num_prompt))
        for place, token in enumerate(chunk.ids):
            if num_same == len(stored) or token != stored[num_same]:
                told = chunk.logprobs[place] if place < len(chunk.logprobs) else None
                was = stored[num_same] if num_same < len(stored) else None
                return _differs(num_same, len(stored), told, was, changed)
            num_same += 1
        tell(num_same, len(stored))
    if cancel.is_set():
        return Replay("failed")
    if num_same < len(stored):
        return Replay("differs", num_same, len(stored), prompt_changed=changed)
    return Replay("same", num_same, len(stored))


def read_sampling(kept: Mapping[str, object]) -> Sampling:
    """The sampling of a stored run. Raises `SamplingInvalid` for one that is not possible."""
    names = Sampling.__dataclass_fields__
    values = {name: value for name, value in kept.items() if name in names}
    bias, stop = values.get("logit_bias"), values.get("stop")
    values["logit_bias"] = (
        {int(token): float(value) for token, value in bias.items()}
        if isinstance(bias, Mapping)
        else {}
    )
    values["stop"] = tuple(stop) if isinstance(stop, list | tuple) else ()
    try:
        return Sampling(**values)  # type: ignore[arg-type]  # written by `asdict` of the same class
    except TypeError as error:
        raise SamplingInvalid("The sampling that was kept cannot be read.") from error


def _differs(
    num_same: int, num_all: int, told: TokenLogprob | None, was: int | None, changed: bool
) -> Replay:
    margin = None
    if told is not None:
        known = [value for token, _, value in told.alternatives if token == was]
        margin = told.logprob - known[0] if known else None
    now = told.text if told else ""
    return Replay("differs", num_same, num_all, now, margin, changed)

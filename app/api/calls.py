"""What all calls share: the place in line, the parts to wait for, the sampling, the day's count."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import anyio

from app.api.adapters import Adapters
from app.api.answering import Asked, Piece, Remembered, answers
from app.api.errors import ApiError
from app.api.relay import Relay
from app.api.requests import Drawn
from app.job import Call
from app.judging import event_of, recorded
from app.services import Services
from app.task import call_scope
from engine.base import Engine, Sampling
from safety.base import Guard
from safety.policy import Decision
from storage.records import Outcome, SafetyEvent, Stage

T = TypeVar("T")
ALIAS = "corral"  # the name under which whatever answers may be asked for
_SAME_NAME = (
    *("temperature", "top_p", "top_k", "min_p"),
    *("repetition_penalty", "presence_penalty", "frequency_penalty"),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What answers a request: the model that runs, or that with an adapter over it."""

    name: str
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """What every answer begins with."""

    id: str
    created: int
    model: str

    @classmethod
    def make(cls, prefix: str, model: str) -> Head:
        """A fresh one."""
        return cls(f"{prefix}-{secrets.token_hex(12)}", int(time.time()), model)


class Calls:
    """Runs calls one after another in each user's line. Its methods belong to the event loop."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.adapters = Adapters(services)
        self._remembered = Remembered()

    async def relay(
        self, user_id: int, work: Callable[[Engine, Guard, Call], Iterator[T]], adapter: str = ""
    ) -> Relay[T]:
        """Begin `work` on a thread as soon as it is its turn, with the adapter that was asked for.

        Raises `JobRefused`, `StorageError`; what `work` raises comes out of the relay.
        """
        services = self.services
        call = await anyio.to_thread.run_sync(services.jobs.enter, user_id)

        def run() -> Iterator[T]:
            try:
                if call.wait():
                    guard = services.guard.wait(call.cancel)
                    with self.adapters.over(services.engine.wait(call.cancel), adapter) as engine:
                        yield from work(engine, guard, call)
            finally:
                services.jobs.leave(call)

        return Relay(run, call.cancel)

    def answers(
        self, user_id: int, each: Sequence[Asked], engine: Engine, guard: Guard, call: Call
    ) -> Iterator[tuple[int, Piece]]:
        """Replies to one prompt, with their numbers; counts what they cost. Blocks."""
        services = self.services
        shield = services.code_shield
        lasts: dict[int, Piece] = {}
        noted: list[tuple[Stage, str, Decision]] = []

        def note(stage: Stage, text: str, decision: Decision) -> None:
            noted.append((stage, text, decision))

        try:
            for number, piece in answers(
                each,
                engine,
                guard,
                services.policy(user_id),
                remembered=self._remembered,
                cancel=call.cancel,
                look=shield.check if shield else None,
                mode=services.guarding.gate_mode,
                note=note,
                scope=call_scope(user_id) if len(each) > 1 else "",
            ):
                lasts[number] = piece
                yield number, piece
        finally:  # after the answers, so that nobody waits for the log
            num_prompt = max((last.num_prompt for last in lasts.values()), default=0)
            self.count(user_id, num_prompt, sum(last.num_new for last in lasts.values()))
            for stage, text, decision in noted:
                services.store.record_safety(
                    event_of_call(services, user_id, stage, text, decision)
                )

    def count(self, user_id: int, num_prompt: int, num_new: int) -> None:
        """Add to the day's tokens of the user. Blocks."""
        if num_prompt or num_new:
            self.services.store.people.add_usage(user_id, num_prompt=num_prompt, num_new=num_new)

    def passes(self, user_id: int, text: str, guard: Guard) -> bool:
        """Whether a prompt may be answered. Blocks."""
        return self._remembered.passes(text, guard, self.services.policy(user_id))

    async def model(self, wanted: str) -> Wanted:
        """What answers. Raises `ApiError` if another model was asked for."""
        info = self.services.engine_info()
        if info is None:
            return Wanted(ALIAS)
        if wanted in (info.model, ALIAS):
            return Wanted(info.model)
        for prefix in (f"{info.model}:", f"{ALIAS}:"):
            adapter = wanted.removeprefix(prefix).lower()
            if wanted.startswith(prefix) and adapter in await self.adapter_names():
                return Wanted(f"{info.model}:{adapter}", adapter=adapter)
        raise ApiError(
            404,
            f"There is no model {wanted!r} here: ask for {info.model!r} or {ALIAS!r}.",
            param="model",
            code="model_not_found",
        )

    def fingerprint(self, wanted: Wanted) -> str | None:
        """Weights and tokenizer by name: equal seeds give equal replies only while this is equal.

        It is not told for an adapter.
        """
        info = self.services.engine_info()
        return None if info is None or wanted.adapter else info.fingerprint[:16]

    async def adapter_names(self) -> list[str]:
        """The adapters that may be asked for now."""
        return await anyio.to_thread.run_sync(self.adapters.names)

    def sampling(
        self, user_id: int, given: Drawn, *, max_tokens: int | None, num_logprobs: int
    ) -> Sampling:
        """What was asked for; what was not is as on the user's page. Blocks."""
        usual = self.services.sampling(user_id)
        chosen = {name: value for name in _SAME_NAME if (value := getattr(given, name)) is not None}
        stop = given.stop or ()
        return replace(
            usual,
            **chosen,
            logit_bias={int(id): value for id, value in (given.logit_bias or {}).items()},
            seed=None if given.seed is None else given.seed % (1 << 63),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            max_new_tokens=max_tokens or usual.max_new_tokens,
            num_logprobs=num_logprobs,
        )


def event_of_call(
    services: Services, user_id: int, stage: Stage, text: str, decision: Decision
) -> SafetyEvent:
    """The line of the safety log for a judgement on a call; it belongs to no message. Blocks."""
    record = recorded(stage, decision, decision.policy_version, len(text))
    outcome: Outcome | None = "shown" if stage == "code" else None
    event = event_of(0, record, decision, services.store.digest(text), outcome)
    return replace(event, user_id=user_id)


def versions(asked: Asked, num: int) -> list[Asked]:
    """The same prompt `num` times, each with a seed of its own where one was given."""
    seed = asked.sampling.seed
    return [
        asked
        if seed is None
        else replace(asked, sampling=replace(asked.sampling, seed=(seed + number) % (1 << 63)))
        for number in range(num)
    ]


def usage(num_prompt: int, num_new: int) -> dict[str, int]:
    """Token counts as clients read them."""
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_new,
        "total_tokens": num_prompt + num_new,
    }

"""The tokens of an answer: how likely each was, what else could have come, and going on from there.

Computed when somebody looks, by reading the stored answer again. A branch is an ordinary turn: the
token that was chosen instead passes the gate as the first one of the new version.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from app.replay import as_read
from app.requests import Branch
from app.task import Begun
from engine.base import Engine, Prompt, Retracing, TokenLogprob
from storage.records import MessageRecord

NUM_ALTERNATIVES = 10
MAX_KEPT = 8  # answers whose tokens are kept, so that a second click computes nothing
REPLACED = "\ufffd"  # stands for bytes that are no whole character


class NotRetraceable(Exception):
    """The tokens of an answer cannot be shown. `code`: "engine", "other_model" or "empty"."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could stand in a place. `possible`: whether a branch can begin with it."""

    id: int
    text: str
    probability: float
    chosen: bool
    possible: bool


@dataclass(frozen=True, slots=True)
class ShownToken:
    """One token of an answer, by its place."""

    text: str
    probability: float

    @property
    def heat(self) -> int:
        """0 (certain) to 5 (surprising), by steps of probability."""
        limits = (0.9, 0.7, 0.5, 0.3, 0.1)
        return sum(self.probability < limit for limit in limits)


class TokenViews:
    """Reads answers again and remembers the last few. Safe from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int, str], Sequence[TokenLogprob]] = OrderedDict()
        self._lock = Lock()
        self._reading = Lock()  # one at a time: each costs as much as a prompt

    def tokens(
        self, engine: Engine, path: Sequence[MessageRecord], reply: MessageRecord
    ) -> list[ShownToken]:
        """All tokens of what is shown of `reply`; `path` is root to prompt. Blocks.

        Raises `NotRetraceable` or `EngineError`.
        """
        found = self._retraced(engine, path, reply)
        return [ShownToken(entry.text, math.exp(entry.logprob)) for entry in found]

    def alternatives(
        self, engine: Engine, path: Sequence[MessageRecord], reply: MessageRecord, place: int
    ) -> list[Alternative]:
        """What could stand at `place`, likeliest first, the chosen token among it."""
        found = self._retraced(engine, path, reply)
        if not 0 <= place < len(found):
            raise NotRetraceable("empty")
        entry = found[place]
        # In the middle of a character no text ends, so none can go on from there.
        between = place == 0 or bool(found[place - 1].text)
        rows = list(entry.alternatives)
        if entry.id not in [token for token, _, _ in rows]:
            rows.append((entry.id, entry.text, entry.logprob))
        return [
            Alternative(
                token,
                entry.text if token == entry.id and entry.text else text,
                math.exp(logprob),
                token == entry.id,
                between and token != entry.id and bool(text) and REPLACED not in text,
            )
            for token, text, logprob in rows
        ]

    def branch(
        self,
        engine: Engine,
        path: Sequence[MessageRecord],
        reply: MessageRecord,
        *,
        key: str,
        place: int,
        token_id: int,
    ) -> Branch:
        """The request for a version that has `token_id` at `place`. Raises `NotRetraceable`."""
        offered = self.alternatives(engine, path, reply, place)
        chosen = next((a for a in offered if a.id == token_id and a.possible), None)
        if chosen is None:
            raise NotRetraceable("empty")
        before = self._retraced(engine, path, reply)[:place]
        ids = (*(entry.id for entry in before), token_id)
        num_chars = sum(len(entry.text) for entry in before)
        return Branch(key, reply.id, num_chars, Begun(ids, chosen.text))

    def _retraced(
        self, engine: Engine, path: Sequence[MessageRecord], reply: MessageRecord
    ) -> Sequence[TokenLogprob]:
        run = reply.generations[-1] if reply.generations else None
        if run is None or not reply.content:
            raise NotRetraceable("empty")
        if not isinstance(engine, Retracing):
            raise NotRetraceable("engine")
        if engine.info().fingerprint != run.fingerprint:
            raise NotRetraceable("other_model")
        name = (run.fingerprint, reply.id, reply.content)
        with self._reading:
            with self._lock:
                if name in self._kept:
                    self._kept.move_to_end(name)
                    return self._kept[name]
            # The text decides: what the guard held back is among the ids but not in it.
            prompt = Prompt(
                messages=as_read(path, run),
                reply_prefix=reply.content,
                reply_ids=[token for each in reply.generations for token in each.token_ids],
            )
            found = engine.retrace(prompt, num_alternatives=NUM_ALTERNATIVES)
            if "".join(entry.text for entry in found) != reply.content:
                raise NotRetraceable("empty")
            with self._lock:
                self._kept[name] = found
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        return found

"""Which of two answers people prefer: win rates, and data to train on.

The scale is that of Llama 2 (Touvron et al. 2023, section 3.2.1): one of the two must be chosen, as
significantly better, better, slightly better, or negligibly better / unsure. The last one counts as
a tie here. Intervals are Wilson's for a binomial share (Wilson 1927), at 95 %.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from storage.records import Comparison, MessageRecord
from storage.store import Store

Aspect = Literal["helpfulness", "safety"]
Layout = Literal["text", "conversations"]
TIE = 1  # the degree of "negligibly better, or unsure"
_Z = 1.959964  # of the normal distribution, for 95 %
_USABLE = ("done", "stopped")  # an answer that the guard cut is nobody's example


@dataclass(frozen=True, slots=True)
class Standing:
    """How one contestant did. `low` and `high` bound the share of wins among wins and losses."""

    name: str
    wins: int
    losses: int
    ties: int

    @property
    def rate(self) -> float | None:
        """Wins among wins and losses; None without any."""
        decided = self.wins + self.losses
        return self.wins / decided if decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson interval of `rate`."""
        return wilson(self.wins, self.wins + self.losses)


def wilson(wins: int, num: int) -> tuple[float, float]:
    """The 95 % interval of a share of `wins` in `num`; (0, 1) if nothing was seen."""
    if not num:
        return 0.0, 1.0
    share, square = wins / num, _Z * _Z
    middle = (share + square / (2 * num)) / (1 + square / num)
    spread = _Z * math.sqrt(share * (1 - share) / num + square / (4 * num * num))
    half = spread / (1 + square / num)
    return max(0.0, middle - half), min(1.0, middle + half)


def contestant(reply: MessageRecord) -> str:
    """Who an answer competes as: the model, its precision and how it was sampled and instructed."""
    if not reply.generations:
        return "?"
    run = reply.generations[-1]
    temperature = run.sampling.get("temperature")
    parts = [run.model, run.precision]
    if isinstance(temperature, int | float):
        parts.append(f"T {temperature:g}")
    if run.system_prompt:
        begin = " ".join(run.system_prompt.split())
        parts.append(f"“{begin[:24]}…”" if len(begin) > 24 else f"“{begin}”")
    return " · ".join(parts)


def standings(rows: Sequence[tuple[str, str, int]]) -> list[Standing]:
    """Win rates of (first, second, degree) rows, best first; the same against itself is left out.

    The degree is as in `Comparison`.
    """
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for first, second, degree in rows:
        if first == second:
            continue
        better, worse = (first, second) if degree < 0 else (second, first)
        if abs(degree) == TIE:
            counts[first][2] += 1
            counts[second][2] += 1
        else:
            counts[better][0] += 1
            counts[worse][1] += 1
    found = [Standing(name, *three) for name, three in counts.items()]
    return sorted(found, key=lambda one: (-(one.rate or 0.0), -one.wins, one.name))


def rated_rows(store: Store, user_id: int, aspect: Aspect) -> list[tuple[str, str, int]]:
    """What `standings` takes, from all that a user has rated in one aspect."""
    rows = []
    for key, comparison in store.rated(user_id):
        degree = getattr(comparison, aspect)
        if degree is not None:
            first, second = answers(store, user_id, key, comparison)
            rows.append((contestant(first), contestant(second), degree))
    return rows


def answers(
    store: Store, user_id: int, key: str, comparison: Comparison
) -> tuple[MessageRecord, MessageRecord]:
    """The two answers of a comparison."""
    first = store.message(user_id, key, comparison.first_id)
    return first, store.message(user_id, key, comparison.second_id)


def preference_lines(
    store: Store, user_id: int, *, aspect: Aspect = "helpfulness", layout: Layout = "text"
) -> Iterator[str]:
    """JSON lines of preferred and rejected answers, for training on preferences.

    "conversations" has whole conversations under `chosen` and `rejected`, as TRL (implicit prompt)
    and torchtune (`ChosenRejectedToMessages`) read them. "text" has `prompt`, `chosen` and
    `rejected` as plain texts, which all three read, with `system` and `history` beside them, as
    LLaMA-Factory reads them. `margin` is Llama 2's: 3 for significantly better, 0 for unsure.
    """
    for key, comparison in store.rated(user_id):
        degree = getattr(comparison, aspect)
        if degree is None:
            continue
        first, second = answers(store, user_id, key, comparison)
        if not all(_usable(reply) for reply in (first, second)):
            continue
        chosen, rejected = (first, second) if degree < 0 else (second, first)
        before = conversation_before(store, user_id, key, chosen)
        if layout == "conversations":
            row: dict[str, object] = {
                "chosen": [*before, _message("assistant", chosen.content)],
                "rejected": [*before, _message("assistant", rejected.content)],
            }
        else:
            row = {**_flat(before), "chosen": chosen.content, "rejected": rejected.content}
        yield _line({**row, "margin": abs(degree) - 1})


def example_lines(store: Store, user_id: int) -> Iterator[str]:
    """JSON lines of `messages` that end with an answer that got a thumb up, for training on them.

    The layout is what TRL, LLaMA-Factory (`formatting: sharegpt` with role and content tags) and
    torchtune (`OpenAIToMessages`) read.
    """
    for key, reply_id in store.liked(user_id):
        reply = store.message(user_id, key, reply_id)
        if _usable(reply):
            before = conversation_before(store, user_id, key, reply)
            yield _line({"messages": [*before, _message("assistant", reply.content)]})


def conversation_before(
    store: Store, user_id: int, key: str, reply: MessageRecord
) -> list[Mapping[str, str]]:
    """System prompt, earlier turns and prompt of an answer, as far as they were answered."""
    run = reply.generations[-1] if reply.generations else None
    path = store.path(user_id, key, leaf_id=reply.parent_id)
    found = [_message("system", run.system_prompt)] if run and run.system_prompt else []
    *earlier, prompt = path
    for asked, answered in zip(earlier[::2], earlier[1::2], strict=False):
        if _usable(answered) and asked.role == "user":
            found += [_message("user", asked.content), _message("assistant", answered.content)]
    return [*found, _message("user", prompt.content)]


def _flat(before: Sequence[Mapping[str, str]]) -> dict[str, object]:
    said = [message["content"] for message in before if message["role"] != "system"]
    system = next((m["content"] for m in before if m["role"] == "system"), "")
    history = [list(pair) for pair in zip(said[:-1:2], said[1::2], strict=False)]
    return {"system": system, "history": history, "prompt": said[-1]}


def _usable(reply: MessageRecord) -> bool:
    return reply.role == "assistant" and reply.status in _USABLE and bool(reply.content)


def _message(role: str, content: str) -> Mapping[str, str]:
    return {"role": role, "content": content}


def _line(row: Mapping[str, object]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"

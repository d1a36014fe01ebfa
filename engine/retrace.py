"""Given tokens read again: how likely each of them was, and what else could have come.

Nothing is drawn. A prompt and its stored reply, or any text, are read as one sequence in a slot of
their own, a part at a time between the steps of running rows, so that no answer waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from engine.base import TokenLogprob
from engine.detokenize import Detokenizer
from engine.kv_cache import Slot
from engine.model import Model
from engine.tokenizer import Tokenizer

T = TypeVar("T")

_PART = 256  # tokens a pass


def retrace(
    model: Model,
    tokenizer: Tokenizer,
    aside: Callable[[Callable[[], T]], T],
    prompt_ids: Sequence[int],
    reply_ids: Sequence[int],
    *,
    adapter: str = "",
    num_alternatives: int,
    continues: bool,
) -> tuple[TokenLogprob, ...]:
    """One entry a token of the reply; their texts joined are the reply.

    `aside` runs a function on the compute thread. Log-probabilities are the model's own, natural,
    before temperature and penalties. `continues` as in `Detokenizer`.
    """
    ids = [*prompt_ids, *reply_ids]
    slot = Slot(model.cache_shape, stretch=model.stretch(len(ids)), adapter=adapter)
    found: list[tuple[float, list[int], list[float]]] = []
    try:
        for start in range(0, len(ids) - 1, _PART):
            end = min(start + _PART, len(ids) - 1)
            # The logits after token i say what may stand at i + 1: the first wanted ones are
            # those after the prompt's last token.
            wanted = max(0, len(prompt_ids) - 1 - start)
            part = partial(_read, model, slot, ids, start, end, wanted, num_alternatives)
            found += aside(part)  # type: ignore[arg-type]  # a list is one T
    finally:
        slot.release()
    pieces = _pieces(tokenizer, reply_ids, continues)
    return tuple(
        TokenLogprob(
            token,
            text,
            logprob,
            tuple(
                (other, tokenizer.decode([other], continues=True), value)
                for other, value in zip(others, values, strict=True)
            ),
        )
        for token, text, (logprob, others, values) in zip(reply_ids, pieces, found, strict=True)
    )


def _read(
    model: Model, slot: Slot, ids: list[int], start: int, end: int, wanted: int, num: int
) -> list[tuple[float, list[int], list[float]]]:
    """Read `ids[start:end]`; for each token after the first `wanted`: what stands behind it."""
    model.make_room(slot, len(ids))
    every = wanted < end - start
    logits = model.forward(ids[start:end], [(slot, end - start)], every=every)  # (n, V)
    if not every:
        return []
    logprobs: Tensor = logits[wanted:].log_softmax(dim=-1)
    targets = torch.tensor(ids[start + wanted + 1 : end + 1], device=logprobs.device)
    chosen = logprobs.gather(1, targets.unsqueeze(1)).squeeze(1)
    best = logprobs.topk(min(num, logprobs.shape[1]))
    return list(zip(chosen.tolist(), best.indices.tolist(), best.values.tolist(), strict=True))


def _pieces(tokenizer: Tokenizer, ids: Sequence[int], continues: bool) -> list[str]:
    """The text that each token adds; a character made of several stands with the last of them."""
    writer = Detokenizer(tokenizer, continues=continues)
    pieces = [writer.push(token) for token in ids]
    if pieces:
        pieces[-1] += writer.flush()
    return pieces


def score(
    model: Model,
    aside: Callable[[Callable[[], T]], T],
    ids: Sequence[int],
    *,
    adapter: str = "",
) -> list[float]:
    """Log-probability of each of `ids` given those before it; 0 for the first, which has none."""
    slot = Slot(model.cache_shape, stretch=model.stretch(len(ids)), adapter=adapter)
    logprobs = [0.0]
    try:
        for start in range(0, len(ids) - 1, _PART):
            logprobs += aside(partial(_score_part, model, slot, ids, start))  # type: ignore[arg-type]  # as above
    finally:
        slot.release()
    return logprobs


def _score_part(model: Model, slot: Slot, ids: Sequence[int], start: int) -> list[float]:
    """Log-probabilities of the tokens after `start`, up to `_PART` of them."""
    part = ids[start : min(start + _PART, len(ids) - 1)]
    model.make_room(slot, len(ids))
    logits = model.forward(part, [(slot, len(part))], every=True)  # (n, V)
    targets = torch.tensor(ids[start + 1 : start + 1 + len(part)], device=logits.device)
    values: list[float] = (
        logits.log_softmax(dim=-1).gather(1, targets.unsqueeze(1)).squeeze(1).tolist()
    )
    return values

"""Passes over a model as the scheduler makes them: a prompt read, tokens written."""

import torch
from torch import Tensor

from engine.kv_cache import Slot
from engine.llama import Llama

PROMPT = [256, *range(40, 57), 99, 5, 5, 7]


def read(model: Llama, ids: list[int], *, chunk: int = 1 << 20) -> tuple[Tensor, Slot]:
    """Logits after every token, read `chunk` tokens at a time."""
    slot = Slot(model.cache_shape)
    model.make_room(slot, len(ids))
    logits = [
        model.forward(ids[at : at + chunk], [(slot, len(ids[at : at + chunk]))], every=True)
        for at in range(0, len(ids), chunk)
    ]
    return torch.cat(logits), slot


def write(model: Llama, ids: list[int], num_new: int) -> list[int]:
    """`num_new` greedy tokens, decoded one by one."""
    slot, ids = Slot(model.cache_shape), list(ids)
    for _ in range(num_new):
        model.make_room(slot, len(ids))
        rest = ids[slot.length :]
        ids.append(int(model.forward(rest, [(slot, len(rest))]).argmax()))
    return ids[-num_new:]

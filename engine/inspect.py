"""The truth about a model's size: weights, keys and values, and what of it fits this machine.

Works on configs alone, so that it can be said before anything is loaded. The numbers are those of
this engine: which matrices become int8 or int4, which stay wider, what a token leaves in the cache.
"""

from __future__ import annotations

from pathlib import Path

import torch

from engine.config import LlamaConfig
from engine.device import choose_device, free_bytes, total_bytes
from engine.fit import PRECISIONS, fit, predict
from engine.loading import choose_precision
from engine.opening import open_llama
from engine.options import Options
from engine.placement import NOWHERE, Offloading, Placement
from engine.shapes import SHAPES, shape


def describe(
    config: LlamaConfig,
    *,
    name: str = "",
    device: str = "auto",
    offloading: Offloading = NOWHERE,
) -> str:
    """The architecture and its costs, as lines of text.

    What the device has no room for is placed as `offloading` allows, and how slow that is measured.
    """
    chosen = choose_device(device)
    fits = _fits(config, chosen, offloading)
    return "\n".join([*_architecture(config, name), "", *_cache(config), "", *fits])


def describe_checkpoint(path: Path, options: Options) -> str:
    """`describe` for a model on the disk. Raises any `CheckpointError`."""
    checkpoint = open_llama(path, options)
    stored = f"Stored as {_size(checkpoint.weight_bytes)} ({_stored_as(checkpoint.config)})."
    text = describe(
        checkpoint.config,
        name=checkpoint.name,
        device=options.device,
        offloading=options.offloading,
    )
    return f"{text}\n{stored}"


def describe_need(
    config: LlamaConfig,
    precision: str,
    *,
    context: int,
    users: int,
    device: str = "auto",
    offloading: Offloading = NOWHERE,
) -> str:
    """What `users` conversations of `context` tokens will take, beside what is free.

    What does not fit is placed as `offloading` allows.
    """
    chosen = choose_device(device)
    held = choose_precision(config, chosen, precision)
    need = predict(config, held, context=context, users=users, device=chosen)
    free = _free(chosen, offloading)
    verdict = "It fits."
    if need.peak_bytes >= free:
        placement = offloading.plan(config, held, chosen, context=context, users=users)
        less = "It does not fit: choose less of something."
        verdict = _told(placement, offloading) or less
    return "\n".join(
        (
            f"{held} on {chosen.type}, {users} x {context:,} tokens:",
            f"  weights         {_size(need.weight_bytes):>10}",
            f"  keys and values {_size(need.cache_bytes):>10}",
            f"  a pass          {_size(need.activation_bytes):>10}",
            f"  while loading   {_size(need.loading_bytes):>10}",
            f"  at most         {_size(need.peak_bytes):>10} of {_size(free)} free. {verdict}",
        )
    )


def fits_here(name: str, *, device: str = "auto", context: int = 4096) -> str:
    """Whether the shape called `name` and `context` tokens fit what is free, in a few words."""
    chosen, config = choose_device(device), shape(name)
    held = choose_precision(config, chosen)
    found = fit(config, held, free_bytes(chosen), chosen)
    if found.max_context < min(context, config.context_length):
        return f"too large for this machine ({_size(found.weight_bytes)} in {held})"
    return f"fits here in {held}"


def describe_known(*, device: str = "auto") -> str:
    """Which of the public Llamas fit this machine, and with how much context."""
    chosen = choose_device(device)
    free = free_bytes(chosen)
    lines = [f"{_size(free)} of {_size(total_bytes(chosen))} free on {chosen.type}.", ""]
    lines.append(f"{'':16}" + "".join(f"{precision:>18}" for precision in PRECISIONS))
    for name in SHAPES:
        config = shape(name)
        cells = []
        for precision in PRECISIONS:
            found = fit(config, precision, free, chosen)
            context = f"{_count(found.max_context)} tokens" if found.max_context else "no"
            cells.append(f"{context:>18}")
        lines.append(f"{name:16}" + "".join(cells))
    return "\n".join(lines)


def _stored_as(config: LlamaConfig) -> str:
    return config.quantized or config.dtype


def _architecture(config: LlamaConfig, name: str) -> list[str]:
    rope = config.rope
    scaling = "" if rope.rope_type == "default" else f", {rope.rope_type} scaling × {rope.factor:g}"
    tied = "one table for input and output" if config.tie_word_embeddings else "two tables"
    return [
        f"{name or 'Llama'}: {config.num_parameters:,} parameters",
        f"{config.num_hidden_layers} layers of {config.hidden_size}, "
        f"feed-forward {config.intermediate_size}, vocabulary {config.vocab_size:,} ({tied})",
        f"{config.num_attention_heads} query heads over {config.num_key_value_heads} key-value "
        f"heads of {config.head_dim}: {_kind(config)}",
        f"context {config.context_length:,} tokens, rotary theta {rope.rope_theta:g}{scaling}",
    ]


def _kind(config: LlamaConfig) -> str:
    group = config.num_attention_heads // config.num_key_value_heads
    if group == 1:
        return "multi-head attention (every query head has its own keys and values)"
    return f"grouped-query attention ({group} query heads share keys and values)"


def _cache(config: LlamaConfig) -> list[str]:
    token = config.kv_bytes_per_token(2)
    group = config.num_attention_heads // config.num_key_value_heads
    lines = [
        f"KV cache in 16 bit: {_size(token)} a token, "
        f"{_size(token * config.context_length)} for the whole context"
    ]
    if group > 1:
        lines.append(
            f"With multi-head attention it would be {_size(token * group)} a token, "
            f"{_size(token * group * config.context_length)} for the whole context"
        )
    return lines


def _free(device: torch.device, offloading: Offloading) -> int:
    """Bytes of `device` that a model may take."""
    free = free_bytes(device)
    return min(free, offloading.most_bytes) if offloading.most_bytes else free


def _told(placement: Placement | None, offloading: Offloading) -> str:
    """Which layers go where and how slow that is; "" for no placement, or one on the device."""
    if placement is None or placement.is_whole:
        return ""
    return placement.told(offloading.seconds(placement))


def _fits(config: LlamaConfig, device: torch.device, offloading: Offloading) -> list[str]:
    free = _free(device, offloading)
    lines = [f"On {device.type}, {_size(free)} free:"]
    for precision in PRECISIONS:
        found = fit(config, precision, free, device)
        context = f"{found.max_context:,} tokens"
        if not found.max_context:
            placement = offloading.plan(config, precision, device)
            context = _told(placement, offloading) or "does not fit"
        lines.append(f"  {precision:5} weights {_size(found.weight_bytes):>9}   {context}")
    return lines


def _size(num_bytes: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.4g} {name}"
    return f"{num_bytes} B"


def _count(num_tokens: int) -> str:
    return f"{num_tokens // 1024}k" if num_tokens >= 10_000 else str(num_tokens)

"""Rotary positions: how far each pair of a head's numbers turns per position, and the turning.

Pairs are kept interleaved (Meta's own layout): two neighbours are one complex number and a rotation
is one multiplication. Hugging Face files keep the two halves of a head apart, so their query and
key rows are reordered once, at loading (`interleave`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.config import LlamaConfig


def inverse_frequencies(config: LlamaConfig, num_tokens: int) -> tuple[Tensor, float]:
    """Angle per position (D / 2,) of each pair, and what to multiply rotated vectors by.

    `num_tokens` matters to dynamic scaling only. Formulas: RoFormer (arXiv 2104.09864), linear and
    NTK-aware scaling as in transformers' `modeling_rope_utils.py`, YaRN (arXiv 2309.00071), and
    meta-llama/llama-models `apply_scaling` for llama3.
    """
    rope, dim = config.rope, config.head_dim
    exponents = torch.arange(0, dim, 2, dtype=torch.float32) / dim
    if rope.rope_type == "dynamic":
        stretch = max(num_tokens, config.max_position_embeddings) / config.max_position_embeddings
        base = rope.rope_theta * (rope.factor * stretch - (rope.factor - 1)) ** (dim / (dim - 2))
        return 1.0 / base**exponents, 1.0
    plain = 1.0 / rope.rope_theta**exponents
    match rope.rope_type:
        case "linear":
            return plain / rope.factor, 1.0
        case "llama3":
            return _llama3_frequencies(config, plain), 1.0
        case "factors":
            return plain / torch.tensor(rope.factors), 1.0
        case "yarn":
            return _yarn_frequencies(config, plain), _yarn_attention_factor(config)
        case _:
            return plain, 1.0


def _llama3_frequencies(config: LlamaConfig, plain: Tensor) -> Tensor:
    """Slow pairs are slowed by `factor`, fast ones kept, those between blended."""
    rope = config.rope
    turns = rope.original_max_position_embeddings * plain / (2 * math.pi)  # in the old context
    blend = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    between = (1 - blend) * plain / rope.factor + blend * plain
    slow, fast = turns < rope.low_freq_factor, turns > rope.high_freq_factor
    return torch.where(slow, plain / rope.factor, torch.where(fast, plain, between))


def _yarn_frequencies(config: LlamaConfig, plain: Tensor) -> Tensor:
    """Pairs that turn often are kept, those that turn rarely slowed, with a ramp over the pairs."""
    rope, dim = config.rope, config.head_dim

    def pair(turns: float) -> float:
        """The (fractional) pair that turns so often within the original context."""
        wavelength = rope.original_max_position_embeddings / (turns * 2 * math.pi)
        return dim * math.log(wavelength) / (2 * math.log(rope.rope_theta))

    low, high = pair(rope.beta_fast), pair(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    span = high - low if high != low else 0.001
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / span).clamp(0, 1)
    return plain / rope.factor * ramp + plain * (1 - ramp)


def _yarn_attention_factor(config: LlamaConfig) -> float:
    rope = config.rope

    def scale(weight: float) -> float:
        return 1.0 if rope.factor <= 1 else 0.1 * weight * math.log(rope.factor) + 1.0

    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return scale(rope.mscale) / scale(rope.mscale_all_dim)
    return scale(1.0)


class Rotary:
    """Tables of rotations, computed as far as they are needed.

    Under dynamic scaling every rotation depends on the length of the whole sequence, which no cache
    can follow token by token. So the length is taken in steps (`stretch`): past the original
    context the next doubling of it. Within a step all is exact; at its end the row is read again.
    """

    def __init__(self, config: LlamaConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self._tables = {0: self._compute(min(2048, config.context_length), 0)}

    def stretch(self, num_tokens: int) -> int:
        """The length a sequence of `num_tokens` is rotated for; 0 where length does not matter."""
        original = self.config.max_position_embeddings
        if self.config.rope.rope_type != "dynamic" or num_tokens <= original:
            return 0
        length = original
        while length < num_tokens:
            length *= 2
        return min(length, self.config.context_length)

    def _compute(self, num_positions: int, stretch: int) -> Tensor:
        """Complex rotations (num_positions, D / 2)."""
        frequencies, factor = inverse_frequencies(self.config, stretch)
        angles = torch.outer(torch.arange(num_positions, dtype=torch.float32), frequencies)
        return torch.complex(angles.cos() * factor, angles.sin() * factor).to(self.device)

    def table(self, num_tokens: int, stretch: int) -> Tensor:
        """Rotations for the positions from 0 to at least `num_tokens`."""
        table = self._tables.get(stretch)
        if table is None or num_tokens > table.shape[0]:
            table = self._compute(stretch or max(num_tokens, 2 * self._tables[0].shape[0]), stretch)
            self._tables[stretch] = table
        return table


def rotate(x: Tensor, turns: Tensor) -> None:
    """Rotate x (n, heads, D) in place by `turns` (n, D / 2), complex."""
    turns = turns.unsqueeze(1)  # (n, 1, D / 2)
    pairs = (*x.shape[:2], x.shape[2] // 2, 2)
    if x.dtype == torch.float32:
        torch.view_as_complex(x.view(pairs)).mul_(turns)
    else:  # complex numbers come in float32 at least
        wide = torch.view_as_complex(x.float().view(pairs))
        x.copy_(torch.view_as_real(wide.mul_(turns)).flatten(-2))


def interleave(weight: Tensor, num_heads: int) -> Tensor:
    """Rows (heads · D, ...) from two halves per head to neighbouring pairs."""
    halves = weight.view(num_heads, 2, -1, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)

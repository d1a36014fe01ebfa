"""A small Llama for training, written out in reading order.

Parameter names equal those of Hugging Face's `LlamaForCausalLM`, so export only renames nothing and
converts precision. Inference with a cache is the engine's business, not this file's.

Letters: B rows, T tokens, C hidden, H query heads, G key heads, D head width, V words.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The numbers of a checkpoint's `config.json`, under the same names."""

    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    max_position_embeddings: int = 1024
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def config(self) -> dict[str, int | float]:
        """The fields as they stand in `config.json`."""
        return {**asdict(self), "head_dim": self.head_dim}


def rotary_table(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosine and sine for every position, (T, D) each, both halves alike (the layout HF uses)."""
    steps = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    frequency = shape.rope_theta**-steps  # (D/2,)
    position = torch.arange(shape.max_position_embeddings, dtype=torch.float32)
    angle = torch.outer(position, frequency)  # (T, D/2)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + D/2) by its angle; x is (B, H, T, D), the angles (B, 1, T, D)."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention: every key head serves H / G query heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.num_heads, self.num_kv = shape.num_attention_heads, shape.num_key_value_heads
        self.head_dim = shape.head_dim
        width, kv_width = self.num_heads * self.head_dim, self.num_kv * self.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, width, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, kv_width, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, kv_width, bias=False)
        self.o_proj = nn.Linear(width, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        rows, length, _ = x.shape
        query = self.q_proj(x).view(rows, length, self.num_heads, self.head_dim).transpose(1, 2)
        key = self.k_proj(x).view(rows, length, self.num_kv, self.head_dim).transpose(1, 2)
        value = self.v_proj(x).view(rows, length, self.num_kv, self.head_dim).transpose(1, 2)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        groups = self.num_heads // self.num_kv
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        seen = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None
        )  # (B, H, T, D)
        merged: Tensor = self.o_proj(seen.transpose(1, 2).reshape(rows, length, -1))
        return merged


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Trunk(nn.Module):
    """Embedding, blocks, last norm: what HF calls `model`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)

    def forward(self, ids: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        x = self.embed_tokens(ids)  # (B, T, C)
        for block in self.layers:
            x = block(x, cos, sin, mask)
        out: Tensor = self.norm(x)
        return out


class Llama(nn.Module):
    """The whole model; the output matrix is the embedding (tied)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Trunk(shape)
        cos, sin = rotary_table(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def start(self, seed: int) -> None:
        """Draw the first weights: fan-in scaled, the two projections into the stream at zero."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)
            elif name.endswith("embed_tokens.weight"):
                nn.init.normal_(weight, std=0.02, generator=generator)
            elif weight.dim() == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5, generator=generator)

    def hidden(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """The stream after the last norm, (B, T, C); `positions` (B, T), `mask` (B, 1, T, T)."""
        cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        out: Tensor = self.model(ids, cos, sin, mask)
        return out

    def words(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) for hidden states (..., C)."""
        return F.linear(hidden, self.model.embed_tokens.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) for rows that each hold one text from position 0."""
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return self.words(self.hidden(ids, positions, None))

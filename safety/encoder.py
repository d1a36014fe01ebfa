"""A small BERT-shaped encoder with int8 weights: the part of the bundled guard that reads meaning.

`Encoder` is the module as it is trained; for judging, its linear layers are `Int8Linear`, which
multiply int8 by int8 where the processor does that well. Padding is masked out; activations are
rounded row by row, so that a text is judged alike alone and beside others.

Letters: B batch, T tokens, D width, H heads, F feed-forward width.
Shape of the model: Devlin et al., BERT (2019), post-norm; weights begin as all-MiniLM-L6-v2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LinearFactory = Callable[[int, int], nn.Module]


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Shape of the encoder, named as in BERT's `config.json` where it has the same thing."""

    vocab_size: int
    hidden_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    intermediate_size: int = 1536
    max_position_embeddings: int = 256
    layer_norm_eps: float = 1e-12
    head_size: int = 128  # width of the layer between the pooled text and the scores
    num_categories: int = 12


class Int8Linear(nn.Module):
    """y = x Wᵀ + b with W as int8 and a scale per output; x is rounded to int8 per row."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(num_out, num_in, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(num_out))
        self.register_buffer("bias", torch.zeros(num_out))
        self.exact = not int8_works()
        self._floats: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        if self.exact:
            if self._floats is None:  # kept, as for a short text unpacking costs more than the rest
                self._floats = self.weight.float() * self.scale[:, None]
            return F.linear(x, self._floats, self.bias)
        rows = x.reshape(-1, x.shape[-1])  # (N, in)
        step = rows.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
        rounded = torch.round(rows / step).to(torch.int8)
        product = torch._int_mm(rounded, self.weight.t())  # (N, out) int32
        y = product.float() * step * self.scale + self.bias
        return y.reshape(*x.shape[:-1], -1)


def int8_works() -> bool:
    """Whether this torch multiplies int8 matrices on this processor fast, and rightly.

    Without the VNNI instructions `torch._int_mm` is a plain loop (torch 2.13), twenty times slower
    than the same product in fp32.
    """
    if not getattr(torch.cpu, "_is_vnni_supported", lambda: False)():
        return False
    one = torch.arange(-32, 32, dtype=torch.int8).reshape(4, 16).repeat(8, 2)  # (32, 32)
    try:
        product = torch._int_mm(one, one.t())
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.equal(product, (one.double() @ one.double().t()).int())


class Layer(nn.Module):
    """Self-attention and feed-forward, each with its residual and norm after it."""

    def __init__(self, config: EncoderConfig, linear: LinearFactory) -> None:
        super().__init__()
        d, f = config.hidden_size, config.intermediate_size
        self.num_heads = config.num_attention_heads
        self.qkv = linear(d, 3 * d)
        self.out = linear(d, d)
        self.norm_attention = nn.LayerNorm(d, config.layer_norm_eps)
        self.up = linear(d, f)
        self.down = linear(f, d)
        self.norm_feed_forward = nn.LayerNorm(d, config.layer_norm_eps)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) → (B, T, D); `mask` (B, 1, 1, T) is true where there is a token."""
        b, t, d = x.shape
        qkv = self.qkv(x).view(b, t, 3, self.num_heads, d // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, D/H)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.norm_attention(x + self.out(mixed.transpose(1, 2).reshape(b, t, d)))
        y: Tensor = self.norm_feed_forward(x + self.down(F.gelu(self.up(x))))
        return y


class Encoder(nn.Module):
    """Tokens to the logits of unsafe, the categories and S6."""

    def __init__(self, config: EncoderConfig, linear: LinearFactory = nn.Linear) -> None:
        super().__init__()
        d, h = config.hidden_size, config.head_size
        self.tokens = nn.Embedding(config.vocab_size, d)
        self.positions = nn.Embedding(config.max_position_embeddings, d)
        self.segments = nn.Embedding(2, d)
        self.norm = nn.LayerNorm(d, config.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(config, linear) for _ in range(config.num_hidden_layers))
        self.pool = nn.Linear(2 * d, h)
        self.unsafe = nn.Linear(h, 1)
        self.category = nn.Linear(h, config.num_categories)
        self.advice = nn.Linear(h, 1)

    def embed(self, ids: Tensor, segments: Tensor) -> Tensor:
        """(B, T) → (B, T, D)."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.tokens(ids) + self.positions(positions) + self.segments(segments)
        y: Tensor = self.norm(x)
        return y

    def head(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) → logits (B,), (B, C), (B,); from the first token and the mean."""
        if mask is None:
            mean = x.mean(1)
        else:
            present = mask[:, 0, 0, :, None].to(x.dtype)  # (B, T, 1)
            mean = (x * present).sum(1) / present.sum(1)
        pooled = F.gelu(self.pool(torch.cat((x[:, 0], mean), dim=1)))
        pooled = F.dropout(pooled, 0.1, self.training)
        return self.unsafe(pooled)[:, 0], self.category(pooled), self.advice(pooled)[:, 0]

    def forward(
        self, ids: Tensor, segments: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of unsafe (B,), categories (B, C) and S6 (B,); `mask` as in `Layer`."""
        x = self.embed(ids, segments)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x, mask)

"""Train the n-gram part of the bundled guard (`safety/ngram_model.py`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safety.categories import HAZARDS
from safety.ngram_model import buckets_of, filter_places, known
from safety.ngrams import Hashes, features
from training.guard_rows import Row

ADVICE = "specialized_advice"
# S4 has no rows; S6 has a head of its own.
CATEGORIES = tuple(key for key in HAZARDS if key not in (ADVICE, "child_exploitation"))


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes the weights besides the rows."""

    num_buckets: int = 90_000
    filter_bits: int = 1 << 22
    least_count: int = 3  # rows that a feature must be in
    dim: int = 16
    hidden: int = 96
    epochs: int = 4
    batch: int = 256
    rate: float = 3e-3
    bag_dropout: float = 0.5  # share of a text's buckets left out in each step
    seed: int = 1
    window: int = 1200
    category_share: float = 0.3  # of the category loss in the whole


@dataclass(frozen=True)
class Encoded:
    """A row as buckets: words and letters of the text, words and letters of its prompt."""

    bags: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    row: Row


Hashed = tuple[Hashes, Hashes, Hashes, Hashes]


class Net(nn.Module):
    """The classifier in torch, as `safety.ngram_model.NgramModel` computes it in numpy."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.dim = recipe.dim
        self.vectors = nn.Parameter(torch.randn(recipe.num_buckets, recipe.dim) * 0.02)
        self.weights = nn.Parameter(torch.zeros(recipe.num_buckets))
        self.hidden = nn.Linear(4 * recipe.dim + 2, recipe.hidden)
        self.unsafe = nn.Linear(recipe.hidden, 1)
        self.category = nn.Linear(recipe.hidden, len(CATEGORIES))
        self.advice = nn.Linear(recipe.hidden, 1)

    def forward(self, bags: list[tuple[Tensor, Tensor]], role: Tensor) -> tuple[Tensor, ...]:
        """Logits of unsafe (B,), categories (B, C) and S6 (B,); `bags` are (buckets, row)."""
        pooled = [self._bag(buckets, rows, len(role)) for buckets, rows in bags]
        hidden = F.gelu(self.hidden(torch.cat([*pooled, role], dim=1)), approximate="tanh")
        hidden = F.dropout(hidden, 0.2, self.training)
        return self.unsafe(hidden)[:, 0], self.category(hidden), self.advice(hidden)[:, 0]

    def _bag(self, buckets: Tensor, rows: Tensor, batch: int) -> Tensor:
        weights = positive(self.weights[buckets])[:, None]  # (N, 1)
        weighted = torch.cat((self.vectors[buckets] * weights, weights), dim=1)  # (N, D + 1)
        total = torch.zeros(batch, self.dim + 1).index_add_(0, rows, weighted)
        return total[:, :-1] / total[:, -1:].clamp_min(1e-6)


def positive(weights: Tensor) -> Tensor:
    """Bucket weights from their free parameters: 1 at first, between e^-2 and e^2."""
    return torch.exp(2 * torch.tanh(weights / 2))


def hashed(rows: Sequence[Row], recipe: Recipe) -> list[Hashed]:
    """Features of the text and the prompt of every row; a text longer than a window is cut."""
    size = recipe.window
    return [(*features(row.text[:size]), *features(row.prompt[-size:])) for row in rows]


def known_features(found: Sequence[Hashed], recipe: Recipe) -> np.ndarray:
    """The filter: bits (filter_bits / 8,) of the features that enough rows have."""
    flat = np.concatenate([hashes for bags in found for hashes in bags])
    hashes, counts = np.unique(flat, return_counts=True)
    bits = np.zeros(recipe.filter_bits, np.uint8)
    bits[filter_places(hashes[counts >= recipe.least_count], recipe.filter_bits)] = 1
    print(f"{len(hashes)} features, {int(bits.sum())} bits set", file=sys.stderr, flush=True)
    return np.packbits(bits, bitorder="little")


def encode(
    rows: Sequence[Row], found: Sequence[Hashed], bits: np.ndarray, recipe: Recipe
) -> list[Encoded]:
    """Known features of every row as buckets."""
    encoded = []
    for row, bags in zip(rows, found, strict=True):
        a, b, c, d = (buckets_of(known(bag, bits), recipe.num_buckets) for bag in bags)
        encoded.append(Encoded((a, b, c, d), row))
    return encoded


def batches(
    encoded: Sequence[Encoded], recipe: Recipe, rng: np.random.Generator | None
) -> Iterator[tuple[list[tuple[Tensor, Tensor]], Tensor, list[Row]]]:
    """Batches as (bags, role, rows): shuffled, with bucket dropout, if `rng` is given."""
    order = rng.permutation(len(encoded)) if rng else np.arange(len(encoded))
    for start in range(0, len(order), recipe.batch):
        part = [encoded[i] for i in order[start : start + recipe.batch]]
        bags = [_joined([e.bags[k] for e in part], recipe.bag_dropout, rng) for k in range(4)]
        role = torch.tensor([[float(e.row.is_reply), float(not e.row.is_reply)] for e in part])
        yield bags, role, [e.row for e in part]


def _joined(
    bags: Sequence[np.ndarray], dropout: float, rng: np.random.Generator | None
) -> tuple[Tensor, Tensor]:
    buckets = np.concatenate(bags)
    rows = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
    if rng:
        kept = rng.random(len(buckets)) >= dropout
        buckets, rows = buckets[kept], rows[kept]
    return torch.from_numpy(buckets), torch.from_numpy(rows)


def loss_of(outputs: tuple[Tensor, ...], rows: Sequence[Row], share: float) -> Tensor:
    """Weighted loss of a batch. S6-only rows have no part in the binary loss.

    Unsafe rows of unknown category have no part in the category loss.
    """
    unsafe, category, advice = outputs
    weight = torch.tensor([0.0 if r.advice_only else r.weight for r in rows])
    target = torch.tensor([r.target for r in rows])
    binary = F.binary_cross_entropy_with_logits(unsafe, target, weight, reduction="sum")
    loss = binary / weight.sum().clamp_min(1.0)

    named = [[CATEGORIES.index(c) for c in r.categories if c != ADVICE] for r in rows]
    known = torch.tensor([r.weight if n else 0.0 for r, n in zip(rows, named, strict=True)])
    truth = torch.zeros(len(rows), len(CATEGORIES))
    for index, columns in enumerate(named):
        truth[index, columns] = 1.0 / max(1, len(columns))
    shares = -(truth * F.log_softmax(category, dim=1)).sum(1)
    loss = loss + share * (shares * known).sum() / known.sum().clamp_min(1.0)

    asked = torch.tensor([float(ADVICE in r.categories) for r in rows])
    sure = torch.tensor([r.weight if (r.categories or not r.unsafe) else 0.0 for r in rows])
    heed = F.binary_cross_entropy_with_logits(advice, asked, sure, reduction="sum")
    return loss + share * heed / sure.sum().clamp_min(1.0)


def resumed(path: Path, recipe: Recipe) -> tuple[Net, np.ndarray]:
    """The net and the filter that `saved` wrote, to train on from."""
    from safetensors.torch import load_file

    state = load_file(path)
    bits = state.pop("known").numpy()
    state["vectors"] = state["vectors"].float() * state.pop("vector_scale")
    state["weights"] = 2 * torch.atanh((state["weights"].float().log() / 2).clamp(-0.99, 0.99))
    net = Net(recipe)
    net.load_state_dict(state)
    return net, bits


def train(encoded: Sequence[Encoded], recipe: Recipe, net: Net | None = None) -> Net:
    """A trained net, new or trained on from `net`; progress goes to stderr."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    net = net or Net(recipe)
    optimizer = torch.optim.AdamW(
        [
            {"params": [net.vectors, net.weights], "weight_decay": 0.0},
            {"params": [p for n, p in net.named_parameters() if "." in n], "weight_decay": 0.01},
        ],
        lr=recipe.rate,
        betas=(0.9, 0.99),
    )
    steps = recipe.epochs * -(-len(encoded) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, steps, pct_start=0.1)
    for epoch in range(recipe.epochs):
        losses = []
        for bags, role, rows in batches(encoded, recipe, rng):
            loss = loss_of(net(bags, role), rows, recipe.category_share)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}", file=sys.stderr, flush=True)
    return net.eval()


def saved(net: Net, bits: np.ndarray, path: Path) -> None:
    """Write the weights as `safety.ngram_model` reads them: vectors int8, a scale per column."""
    from safetensors.numpy import save_file

    vectors = net.vectors.detach()
    scale = vectors.abs().amax(0).clamp_min(1e-8) / 127
    state = {name: p.detach().numpy() for name, p in net.named_parameters() if "." in name}
    state["vectors"] = torch.round(vectors / scale).to(torch.int8).numpy()
    state["vector_scale"] = scale.numpy()
    state["known"] = bits
    state["weights"] = positive(net.weights.detach()).to(torch.float16).numpy()
    save_file(state, path)

"""Muon for the matrices inside the blocks, AdamW for the embedding and the norms.

Muon (Keller Jordan, 2024, https://kellerjordan.github.io/posts/muon/) makes each update of a matrix
nearly orthogonal by five Newton-Schulz steps; the coefficients are those of that note.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(update: Tensor, steps: int = 5) -> Tensor:
    """Push all singular values of each matrix of (N, rows, columns) towards one."""
    a, b, c = COEFFICIENTS
    tall = update.shape[1] > update.shape[2]
    x = update.transpose(1, 2) if tall else update
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = x.transpose(1, 2) if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, then `orthogonal`; matrices of one shape are stepped together."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                self._step_shape(shape, weights, group)

    def _step_shape(
        self, shape: torch.Size, weights: list[nn.Parameter], group: dict[str, Any]
    ) -> None:
        updates = []
        for weight in weights:
            assert weight.grad is not None
            kept = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            kept.lerp_(weight.grad, 1 - group["momentum"])
            updates.append(weight.grad.lerp(kept, group["momentum"]))
        scale = max(1.0, shape[0] / shape[1]) ** 0.5
        for weight, update in zip(weights, orthogonal(torch.stack(updates)), strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(update, alpha=-group["lr"] * scale)


def optimizers(model: nn.Module, *, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """One optimizer for the block matrices (none if `muon_lr` is 0) and one for everything else."""
    named = list(model.named_parameters())
    inner = [weight for name, weight in named if weight.dim() == 2 and ".layers." in name]
    outer = [weight for name, weight in named if weight.dim() != 2 or ".layers." not in name]
    if not muon_lr:
        return [torch.optim.AdamW(inner + outer, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.05)]
    return [
        Muon(inner, lr=muon_lr, weight_decay=0.02),
        torch.optim.AdamW(outer, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]

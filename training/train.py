"""The training loop: phases, schedule, workers, checkpoints to resume from, a log.

One micro-batch is one worker thread's job. On a CPU each of the workers computes with one thread
of its own, so a core that is busy elsewhere slows down one micro-batch and not every matrix
product; the gradients are summed in order, so the number of workers changes nothing but the speed.
On CUDA there is one worker, in bfloat16 autocast.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training.mixture import Mixture
from training.model import Llama
from training.optimizer import optimizers
from training.packing import Batch, Packer, Text, pack


@dataclass(frozen=True)
class Phase:
    """One stretch of training with its own texts, loss and rate.

    The rate warms up linearly, stays, and over the last `decay` of the tokens falls linearly to
    `floor` of itself. `part_weights` weigh the loss on frame, context and assistant tokens.
    """

    name: str
    tokens: int
    muon_lr: float
    adam_lr: float
    part_weights: tuple[float, float, float]
    warmup: float = 0.02
    decay: float = 0.0
    floor: float = 0.0

    def rate(self, done: int) -> float:
        """The share of the full rate after `done` tokens."""
        part = done / self.tokens
        if part < self.warmup:
            return (part + 1e-3) / (self.warmup + 1e-3)
        if self.decay and part > 1 - self.decay:
            left = max(0.0, (1 - part) / self.decay)
            return self.floor + (1 - self.floor) * left
        return 1.0


@dataclass(frozen=True)
class Pace:
    """Sizes that change the speed more than the result."""

    step_tokens: int = 4096
    batch_tokens: int = 2048
    workers: int = 2
    checkpoint_seconds: float = 120.0
    average: float = 0.99  # of the slow copy of the weights that is exported
    device: str = "cpu"


def loss_sum(model: Llama, batch: Batch, device: str) -> Tensor:
    """Weighted sum of the losses; logits are computed only where something counts."""
    ids, positions = batch.ids.to(device), batch.positions.to(device)
    hidden = model.hidden(ids, positions, batch.mask.to(device))
    weights = batch.weights.flatten().to(device)
    counted = weights.nonzero().squeeze(1)
    logits = model.words(hidden.flatten(0, 1)[counted]).float()
    targets = batch.targets.flatten().to(device)[counted]
    return F.cross_entropy(logits, targets, reduction="none") @ weights[counted]


class Trainer:
    """Model, slow copy, optimizers and the place in the phase."""

    def __init__(self, model: Llama, phase: Phase, pace: Pace, folder: Path) -> None:
        self.model, self.phase, self.pace, self.folder = model.to(pace.device), phase, pace, folder
        self.weights = list(model.parameters())
        self.optimizers = optimizers(model, muon_lr=phase.muon_lr, adam_lr=phase.adam_lr)
        self.base_rates = [group["lr"] for o in self.optimizers for group in o.param_groups]
        self.slow = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        self.tokens = 0  # done in this phase
        self.steps = 0
        threads = 1 if pace.device == "cpu" else torch.get_num_threads()
        self.pool = ThreadPoolExecutor(
            pace.workers if pace.device == "cpu" else 1,
            initializer=torch.set_num_threads,
            initargs=(threads,),
        )

    # --- one step ---------------------------------------------------------------------------

    def gradients(self, batch: Batch, total: float) -> tuple[float, Sequence[Tensor]]:
        """One micro-batch: its share of the loss and its gradients."""
        cuda = self.pace.device.startswith("cuda")
        with torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext():
            loss = loss_sum(self.model, batch, self.pace.device) / total
        return loss.item(), torch.autograd.grad(loss, self.weights)

    def step(self, batches: Sequence[Batch]) -> float:
        """One update from several micro-batches; the mean loss."""
        total = float(sum(batch.weights.sum() for batch in batches))
        results = list(self.pool.map(lambda batch: self.gradients(batch, total), batches))
        for weight, *parts in zip(self.weights, *(grads for _, grads in results), strict=True):
            weight.grad = sum(parts[1:], parts[0])
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        share = self.phase.rate(self.tokens)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, base in zip(groups, self.base_rates, strict=True):
            group["lr"] = base * share
        for optimizer in self.optimizers:
            optimizer.step()
        self.tokens += sum(int((batch.texts >= 0).sum()) for batch in batches)
        self.steps += 1
        keep = min(self.pace.average, (1 + self.steps) / (10 + self.steps))
        for name, weight in self.model.named_parameters():
            self.slow[name].lerp_(weight.detach(), 1 - keep)
        return sum(loss for loss, _ in results)

    # --- checkpoints ------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.phase.name}.pt"

    def save(self) -> None:
        """Write everything needed to go on, by rename, so that a cut leaves the older one."""
        state = {
            "model": self.model.state_dict(),
            "slow": self.slow,
            "tokens": self.tokens,
            "steps": self.steps,
            "optimizers": [o.state_dict() for o in self.optimizers],
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def resume(self) -> bool:
        """Go on from this phase's checkpoint if there is one."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.pace.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.slow, self.tokens, self.steps = state["slow"], state["tokens"], state["steps"]
        return True

    # --- the loop ---------------------------------------------------------------------------

    def run(self, mixture: Mixture) -> None:
        """Train until the phase's tokens are done; resumable at any moment."""
        self.folder.mkdir(parents=True, exist_ok=True)
        packer = Packer(self.pace.batch_tokens, self.model.shape.max_position_embeddings)
        saved = logged = time.monotonic()
        losses: list[float] = []
        tokens_before = self.tokens
        while self.tokens < self.phase.tokens:
            losses.append(self.step(self._batches(mixture, packer)))
            now = time.monotonic()
            if len(losses) == 20 or self.tokens >= self.phase.tokens:
                speed = (self.tokens - tokens_before) / (now - logged)
                self._log(sum(losses) / len(losses), speed)
                losses, logged, tokens_before = [], now, self.tokens
            if now - saved > self.pace.checkpoint_seconds:
                self.save()
                saved = now
        self.save()

    def _batches(self, mixture: Mixture, packer: Packer) -> list[Batch]:
        batches: list[Batch] = []
        while sum(batch.ids.numel() for batch in batches) < self.pace.step_tokens:
            full = packer.push(mixture.next())
            if full is not None:
                batches.append(pack(*full, self.phase.part_weights))
        return batches

    def _log(self, loss: float, speed: float) -> None:
        line = {
            "phase": self.phase.name,
            "step": self.steps,
            "tokens": self.tokens,
            "loss": round(loss, 4),
            "rate": round(self.phase.rate(self.tokens), 4),
            "tokens_per_second": round(speed),
        }
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def slow_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint: exported, and the start of the next phase."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    slow: dict[str, Tensor] = state["slow"]
    return slow


def mixture_shares(texts: Mapping[str, Sequence[Text]], shares: Mapping[str, float]) -> list[str]:
    """One line per source: its size and how often a million drawn tokens walk through it."""
    total = sum(shares[name] for name in texts)
    lines = []
    for name, kept in texts.items():
        size = sum(map(len, kept))
        lines.append(f"{name:14} {len(kept):7} texts {size:9} tokens {shares[name] / total:6.1%}")
    return lines

"""How fast a model runs here: prefill and decode of one row, by the engine's own forward pass.

With `shape` the weights are random, so that the speed of a model can be known before it is
downloaded: what a pass costs does not depend on what the weights say.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from engine.config import LlamaConfig
from engine.device import choose_device, device_name
from engine.kv_cache import Slot
from engine.llama import Llama
from engine.loading import attach_graphs, attach_step, choose_precision
from engine.opening import open_llama
from engine.options import USUAL, Options
from engine.pace import Pace, thread_choices
from engine.recording import recorder_for
from engine.shapes import shape
from engine.tensors import Weights
from engine.tuning import tune
from engine.weights import load_llama, tensor_shapes

Result = dict[str, str | int | float]

_ROUNDS = 3


class RandomWeights:
    """Weights for `config` that say nothing, in bfloat16, made when they are read."""

    def __init__(self, config: LlamaConfig) -> None:
        self.config = config
        self.name = "random weights"
        self.paired = True
        self.tensors: Mapping[str, tuple[int, ...]] = tensor_shapes(config)
        generator = torch.Generator().manual_seed(0)
        self._noise = (torch.randn((1 << 20) + 7, generator=generator) * 0.02).bfloat16()

    def read_grouped(self, name: str) -> None:
        """Nothing is stored in groups."""

    def read(self, name: str) -> Tensor:
        """One tensor: the same noise over and over."""
        size = self.tensors[name]
        num = torch.Size(size).numel()
        return self._noise.repeat(-(-num // self._noise.numel()))[:num].view(size)


def run_bench(
    model: Path | None = None,
    options: Options = USUAL,
    *,
    shape_name: str | None = None,
    num_prompt: int = 512,
    num_new: int = 64,
) -> Result:
    """Measure the checkpoint in `model`, or random weights of `shape_name`.

    Returns medians of three rounds: `prefill_tokens_per_second` for a prompt of `num_prompt`,
    `decode_tokens_per_second` for `num_new` greedy tokens behind it. `peak_bytes` is the highest
    memory this process ever had. Blocks; raises any `EngineError` of loading.
    """
    chosen = choose_device(options.device)
    pace = Pace(thread_choices(options.threads))
    torch.set_num_threads(pace.threads)
    weights: Weights
    if shape_name is not None:
        weights = RandomWeights(shape(shape_name))
    else:
        assert model is not None, "either a model or a shape is measured"
        weights = open_llama(model, options)
    wanted = choose_precision(weights.config, chosen, options.precision)
    began = time.perf_counter()
    llama = load_llama(weights, wanted, chosen, kept=options.kept)
    own_kernel = attach_step(llama)
    attach_graphs(llama, recorder_for(chosen))
    llama.tuned = tune(llama)
    load_seconds = time.perf_counter() - began
    num_prompt = min(num_prompt, llama.cache_shape.context_length - num_new - 1)
    _settle(llama, pace)
    rounds = [measure(llama, num_prompt, num_new) for _ in range(_ROUNDS)]
    return {
        "model": shape_name or weights.name,
        "device": device_name(chosen),
        "precision": llama.precision,
        "own_kernel": own_kernel,
        "kernels": llama.kernels,
        "threads": torch.get_num_threads(),
        "num_parameters": weights.config.num_parameters,
        "weight_bytes": llama.weight_bytes,
        "num_prompt": num_prompt,
        "num_new": num_new,
        "prefill_tokens_per_second": round(statistics.median(r[0] for r in rounds), 2),
        "decode_tokens_per_second": round(statistics.median(r[1] for r in rounds), 2),
        "load_seconds": round(load_seconds, 2),
        "peak_bytes": peak_bytes(chosen),
    }


def _settle(llama: Llama, pace: Pace) -> None:
    """Use the number of threads that decodes fastest now, as the engine would."""
    slot = Slot(llama.cache_shape)
    llama.make_room(slot, 2)
    while not pace.settled:
        torch.set_num_threads(pace.threads)
        began = time.perf_counter()
        llama.forward([0], [(slot, 1)])
        pace.record(time.perf_counter() - began)
        slot.trim(1)
    torch.set_num_threads(pace.threads)


def measure(llama: Llama, num_prompt: int, num_new: int) -> tuple[float, float]:
    """Prefill and decode rates of one row, in tokens per second."""
    slot = Slot(llama.cache_shape, stretch=llama.stretch(num_prompt + num_new))
    llama.make_room(slot, num_prompt + num_new)
    ids = [(7919 * at) % llama.config.vocab_size for at in range(num_prompt)]
    began = time.perf_counter()
    for at in range(0, num_prompt, 512):
        part = ids[at : at + 512]
        logits = llama.forward(part, [(slot, len(part))])
    token = int(logits.argmax())
    read = time.perf_counter()
    for _ in range(num_new):
        token = int(llama.forward([token], [(slot, 1)]).argmax())
    written = time.perf_counter()
    return num_prompt / (read - began), num_new / (written - read)


def peak_bytes(device: torch.device) -> int:
    """The most memory this process had: on the GPU if it used one, else resident."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

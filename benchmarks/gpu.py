"""How fast the engine is on a GPU, next to transformers: `python -m benchmarks.gpu [--json]`.

Needs nothing but this folder: random weights at the true shape. The measure of decoding is the
part of the memory bandwidth that reading all weights once a token takes; the bandwidth is that of a
large copy, measured first. A shape that does not fit the device is left out and named. The engine
decodes with and without CUDA graphs. **Nobody has run this on a GPU yet**: only its logic is
tested, on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from engine.bench import RandomWeights
from engine.device import choose_device, device_name, free_bytes
from engine.fit import CHUNK, weight_bytes
from engine.kv_cache import Slot
from engine.llama import Llama
from engine.loading import attach_graphs
from engine.quantize import Precision
from engine.recording import recorder_for
from engine.shapes import shape
from engine.weights import load_llama

SHAPES = ("llama-3.2-1b", "llama-3-8b")
PRECISIONS = ("bf16", "int8")
NUM_USERS = 16
_LONG = 4096  # tokens of a conversation that was read before
_COPY_BYTES = 1 << 30
_SPARE = 0.8  # of the free memory that weights may take

Result = dict[str, str | float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", action="append", help=f"default: {', '.join(SHAPES)}")
    parser.add_argument("--new", type=int, default=64, help="tokens of a measurement")
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    device = choose_device(chosen.device)
    result: Result = {"device": device_name(device)}
    bandwidth = copy_bandwidth(device)
    result["bandwidth GB/s"] = round(bandwidth / 1e9, 1)
    for name in chosen.shape or SHAPES:
        for precision in PRECISIONS:
            result |= ours(name, precision, device, bandwidth, chosen.new)
        if not chosen.no_transformers:
            result |= transformers(name, device, chosen.new)
    lines = [f"{name:52} {value!s:>12}" for name, value in result.items()]
    print(json.dumps(result) if chosen.json else "\n".join(lines))
    return 0


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """The median time of `work`, all that it queued on the device included."""
    times = []
    for _ in range(repeats + 1):  # the first one warms up
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second, read and written, of a copy too large for any cache."""
    size = min(_COPY_BYTES, free_bytes(device) // 8)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device)


def ours(name: str, precision: str, device: torch.device, bandwidth: float, num_new: int) -> Result:
    """The rates of both ways to decode, or why there is only one."""
    config, key = shape(name), f"{name} {precision}"
    wanted = cast(Precision, precision)
    if weight_bytes(config, wanted, device) > _SPARE * free_bytes(device):
        return {key: "does not fit"}
    model = load_llama(RandomWeights(config), wanted, device)
    result = rates(model, f"{key} eager", bandwidth, num_new)
    if attach_graphs(model, recorder_for(device)):
        result |= rates(model, f"{key} graphs", bandwidth, num_new)
    else:
        result[f"{key} graphs"] = model.kernels or "none on this device"
    model.unload()
    return result


def rates(model: Llama, key: str, bandwidth: float, num_new: int) -> Result:
    """Of one user, also behind a long text, and of `NUM_USERS`; one's part of the bandwidth."""
    one = num_new / decode_seconds(model, 1, num_new)
    far = num_new / decode_seconds(model, 1, num_new, behind=_LONG)
    many = NUM_USERS * num_new / decode_seconds(model, NUM_USERS, num_new)
    return {
        f"{key} tokens/s": round(one, 1),
        f"{key} of the bandwidth": round(model.weight_bytes * one / bandwidth, 3),
        f"{key} tokens/s behind {_LONG}": round(far, 1),
        f"{key} tokens/s, {NUM_USERS} users": round(many, 1),
        f"{key} {NUM_USERS} users / one": round(many / one, 2),
    }


def decode_seconds(model: Llama, num_rows: int, num_new: int, *, behind: int = 0) -> float:
    """Greedy decoding of `num_new` tokens in each of `num_rows` rows, drawn on the device.

    Rows begin `behind` tokens that were read before.
    """
    slots = [Slot(model.cache_shape) for _ in range(num_rows)]
    for slot in slots:
        model.make_room(slot, behind + num_new + 2)
        for at in range(0, behind, CHUNK):
            num = min(CHUNK, behind - at)
            model.forward([1] * num, [(slot, num)])

    def decode() -> None:
        for slot in slots:
            slot.trim(behind)
        ids = [1] * num_rows
        for _ in range(num_new):
            logits = model.forward(ids, [(slot, 1) for slot in slots])
            ids = logits.argmax(dim=-1).tolist()

    return seconds(decode, model.device, repeats=3)


def transformers(name: str, device: torch.device, num_new: int) -> Result:
    """`generate` of transformers in bfloat16: eager, and with a static cache, which it compiles."""
    ours = shape(name)
    if weight_bytes(ours, "bf16", device) > _SPARE * free_bytes(device):
        return {f"{name} transformers": "does not fit"}
    import transformers as library

    config = library.LlamaConfig(
        vocab_size=ours.vocab_size,
        hidden_size=ours.hidden_size,
        intermediate_size=ours.intermediate_size,
        num_hidden_layers=ours.num_hidden_layers,
        num_attention_heads=ours.num_attention_heads,
        num_key_value_heads=ours.num_key_value_heads,
        tie_word_embeddings=ours.tie_word_embeddings,
    )
    with torch.device(device):
        model: Any = library.LlamaForCausalLM(config).bfloat16()
    ids = torch.ones(1, 2, dtype=torch.long, device=device)
    result: Result = {}
    for label, options in (("eager", {}), ("static", {"cache_implementation": "static"})):

        def generate(options: dict[str, Any] = options) -> None:
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=num_new,
                max_new_tokens=num_new,
                do_sample=False,
                pad_token_id=0,
                **options,
            )

        taken = seconds(generate, device, repeats=3)
        result[f"{name} transformers {label} tokens/s"] = round(num_new / taken, 1)
    return result


if __name__ == "__main__":
    sys.exit(main())

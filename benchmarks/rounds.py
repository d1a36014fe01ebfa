"""Corral's and transformers' side of the speed benchmarks: see `benchmarks/peers.py`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from engine.bench import RandomWeights, measure
from engine.checkpoint import open_checkpoint
from engine.loading import attach_step
from engine.quantize import Precision
from engine.shapes import SHAPES, shape
from engine.tensors import Weights
from engine.tuning import tune
from engine.weights import load_llama

Rates = tuple[float, float]  # tokens per second: reading, writing


def corral(model: str, precision: str) -> tuple[dict[str, Any], Callable[[int, int], Rates]]:
    """What the model says of itself, and a round of it."""
    weights: Weights = (
        RandomWeights(shape(model)) if model in SHAPES else open_checkpoint(Path(model))
    )
    llama = load_llama(weights, cast(Precision, precision), torch.device("cpu"))
    about = {"own_kernel": attach_step(llama), "kernels": tune(llama)}
    about["weight_bytes"] = llama.weight_bytes
    return about, lambda num_prompt, num_new: measure(llama, num_prompt, num_new)


def transformers(model: str) -> tuple[dict[str, Any], Callable[[int, int], Rates]]:
    """`generate` of transformers, greedy, in bfloat16."""
    import transformers as library

    if model in SHAPES:
        ours = shape(model)
        config = library.LlamaConfig(
            vocab_size=ours.vocab_size,
            hidden_size=ours.hidden_size,
            intermediate_size=ours.intermediate_size,
            num_hidden_layers=ours.num_hidden_layers,
            num_attention_heads=ours.num_attention_heads,
            num_key_value_heads=ours.num_key_value_heads,
            tie_word_embeddings=ours.tie_word_embeddings,
        )
        llama: Any = library.LlamaForCausalLM(config).bfloat16()
    else:
        llama = library.AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    llama.eval()

    def seconds(ids: torch.Tensor, num_new: int) -> float:
        began = time.perf_counter()
        mask = torch.ones_like(ids)
        llama.generate(
            ids,
            attention_mask=mask,
            min_new_tokens=num_new,
            max_new_tokens=num_new,
            do_sample=False,
            pad_token_id=0,
        )
        return time.perf_counter() - began

    def a_round(num_prompt: int, num_new: int) -> Rates:
        ids = torch.tensor([[7919 * at % llama.config.vocab_size for at in range(num_prompt)]])
        reading = seconds(ids, 1)
        writing = seconds(ids, num_new + 1) - reading
        return num_prompt / reading, num_new / max(writing, 1e-9)

    return {"version": library.__version__}, a_round


def main() -> None:
    """`corral|transformers MODEL PRECISION THREADS`: load, then a round for each line."""
    who, model, precision, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    about, a_round = corral(model, precision) if who == "corral" else transformers(model)
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        prefill, decode = a_round(*json.loads(line))
        print(json.dumps({"prefill": prefill, "decode": decode}), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

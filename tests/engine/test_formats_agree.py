"""The same weights in every format, in the shape of every generation: the same greedy tokens.

The reference is transformers' own Llama on the Hugging Face folder; for the adapter, on weights
that the test merged by hand.
"""

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from engine.checkpoint import Checkpoint, open_checkpoint
from engine.kv_cache import Slot
from engine.rotary import inverse_frequencies
from engine.weights import load_llama
from tests.engine.adapter_files import merge, write_adapter
from tests.engine.checkpoints import make_checkpoint
from tests.engine.gguf_files import write_gguf
from tests.engine.meta_files import write_meta

PROMPT = [256, *range(40, 57), 99, 5, 5, 7]
NUM_NEW = 16
# Greatest difference of logits to the reference's: float32 adds in another order.
TOLERANCE = 2e-4

LLAMA3_SCALING = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
GENERATIONS: dict[str, dict[str, Any]] = {
    "llama-1": {"num_key_value_heads": 4, "rms_norm_eps": 1e-6},
    "llama-2": {"num_key_value_heads": 4},
    "llama-2-70b": {"num_attention_heads": 8, "num_key_value_heads": 4},
    "code-llama": {"num_key_value_heads": 4, "rope_theta": 1e6},
    "llama-3": {"num_attention_heads": 8, "num_key_value_heads": 4, "rope_theta": 5e5},
    "llama-3.1": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "rope_theta": 5e5,
        "head_dim": 16,
        "max_position_embeddings": 131072,
        "rope_scaling": LLAMA3_SCALING,
    },
    "llama-3.2": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "rope_theta": 5e5,
        "max_position_embeddings": 131072,
        "rope_scaling": {**LLAMA3_SCALING, "factor": 32.0},
        "tie_word_embeddings": True,
    },
}


def reference(folder: Path) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens of transformers, and its logits after each token of the prompt."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        ids = torch.tensor([PROMPT])
        logits = model(ids).logits[0]
        for _ in range(NUM_NEW):
            best = model(ids).logits[0, -1].argmax()
            ids = torch.cat((ids, best.view(1, 1)), dim=1)
    return ids[0, len(PROMPT) :].tolist(), logits


def ours(checkpoint: Checkpoint) -> tuple[list[int], torch.Tensor]:
    model = load_llama(checkpoint, "fp32", torch.device("cpu"))
    slot = Slot(model.cache_shape)
    model.make_room(slot, len(PROMPT) + NUM_NEW)
    logits = model.forward(PROMPT, [(slot, len(PROMPT))], every=True)
    written = [int(logits[-1].argmax())]
    while len(written) < NUM_NEW:
        written.append(int(model.forward(written[-1:], [(slot, 1)])[0].argmax()))
    return written, logits


def as_gguf(folder: Path, path: Path) -> Path:
    """With the factors that llama.cpp's converter stores for scaled positions."""
    config = open_checkpoint(folder).config
    if config.rope.rope_type == "default":
        return write_gguf(folder, path)
    exponents = torch.arange(0, config.head_dim, 2) / config.head_dim
    plain = 1.0 / config.rope.rope_theta**exponents
    factors = plain / inverse_frequencies(config, 0)[0]
    kind = gguf.GGMLQuantizationType.F32
    return write_gguf(folder, path, kind, rope_factors=factors.tolist())


@pytest.mark.parametrize("name", GENERATIONS)
def test_every_format_writes_the_same(name: str, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "folder", **GENERATIONS[name])
    scaling = GENERATIONS[name].get("rope_scaling")
    params: dict[str, Any] = {} if scaling is None else {"use_scaled_rope": True}
    if scaling:
        params["rope_scaling_factor"] = scaling["factor"]
    if "head_dim" in GENERATIONS[name]:
        params["head_dim"] = GENERATIONS[name]["head_dim"]
    checkpoints = {
        "safetensors": open_checkpoint(folder),
        "gguf": open_checkpoint(as_gguf(folder, tmp_path / "model.gguf")),
    }
    for num_shards in (1, 4):
        meta = write_meta(folder, tmp_path / f"meta-{num_shards}", num_shards, **params)
        checkpoints[f"{num_shards} of Meta's"] = open_checkpoint(meta, allow_pickle=True)
    tokens, logits = reference(folder)
    for kind, checkpoint in checkpoints.items():
        written, found = ours(checkpoint)
        assert written == tokens, kind
        assert (found - logits).abs().max() < TOLERANCE * logits.abs().max(), kind
    adapter = write_adapter(folder, tmp_path / "adapter")
    merged = merge(folder, adapter, tmp_path / "merged", lambda _: 2)
    tokens, logits = reference(merged)
    for base in (folder, tmp_path / "model.gguf"):
        written, found = ours(open_checkpoint(base, adapter=adapter))
        assert written == tokens, base
        assert (found - logits).abs().max() < TOLERANCE * logits.abs().max(), base

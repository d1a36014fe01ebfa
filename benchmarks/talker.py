"""A model of any public shape that says one harmless paragraph again and again.

What a pass costs does not depend on what the weights say, so this one is as fast as the real model
of that shape, writes text that the guard lets pass, and never ends by itself. Its layers compute
and add nothing; its head knows which token follows which.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from engine.bench import RandomWeights
from engine.catalog import BUILT_IN_FOLDER
from engine.shapes import shape

# One token a word: each decides the next one, and the empty line begins it anew.
TEXT = (
    "The old house by the sea has a red door and many small room where children look out at night "
    "to see how far stars are from their own warm little place while water runs under trees long "
    "after every light went down again"
)
END = ".\n\n"


def make_talker(shape_name: str, folder: Path) -> Path:
    """Write the checkpoint, in bfloat16 and with the built-in model's tokenizer; its folder."""
    config = shape(shape_name)
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUILT_IN_FOLDER / name, folder / name)
    own = json.loads((BUILT_IN_FOLDER / "config.json").read_text(encoding="utf-8"))
    weights = RandomWeights(config)
    tensors = {name: weights.read(name).clone() for name in weights.tensors}
    for name, tensor in tensors.items():
        if "o_proj" in name or "down_proj" in name:
            tensor.zero_()
        elif tensor.dim() == 1:
            tensor.fill_(1.0)
    embedding = tensors["model.embed_tokens.weight"]
    head = torch.zeros_like(embedding)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    spelt = [tokenizer.encode(f" {word}").ids for word in TEXT.split()]
    words = [ids[0] for ids in spelt]
    assert len(set(words)) == len(spelt) == sum(map(len, spelt)), "each token decides the next one"
    (end,) = tokenizer.encode(END).ids
    (ahead,) = tokenizer.encode("\n\n").ids  # of the reply, where the template ends
    for now, following in zip([ahead, end, *words], [words[0], *words, end], strict=True):
        head[following] += embedding[now]
    tensors["lm_head.weight"] = head
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    written = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
        "rope_theta": 10000.0,
        "bos_token_id": own["bos_token_id"],
        "eos_token_id": own["eos_token_id"],
    }
    for name in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "rms_norm_eps",
    ):
        written[name] = getattr(config, name)
    (folder / "config.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    return folder

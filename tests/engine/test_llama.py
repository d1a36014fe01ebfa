"""The own forward pass against transformers' LlamaForCausalLM on the same files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine.checkpoint import open_checkpoint
from engine.errors import CheckpointBroken, CheckpointMissing
from engine.kv_cache import Slot
from engine.llama import Llama
from engine.quantize import Precision
from engine.weights import load_llama
from tests.engine.checkpoints import GENERATIONS, make_checkpoint, save_weights
from tests.engine.passes import PROMPT, read, write

CPU = torch.device("cpu")


def load(folder: Path, precision: Precision = "fp32") -> Llama:
    return load_llama(open_checkpoint(folder), precision, CPU)


def oracle(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    transformers = pytest.importorskip("transformers")
    config = {
        key: value
        for key, value in json.loads((folder / "config.json").read_text()).items()
        if value is not None
    }
    made = transformers.LlamaConfig(**config)
    model = transformers.LlamaForCausalLM.from_pretrained(folder, config=made, dtype=dtype)
    return model.eval()


def stretch(reference: Any, model: Llama, num_tokens: int) -> None:
    """Give the reference the frequencies of the step that we rotate `num_tokens` in."""
    if length := model.rotary.stretch(num_tokens):
        reference.model.rotary_emb(torch.zeros(1), torch.tensor([[length - 1]]))


@pytest.mark.parametrize("name", GENERATIONS)
def test_equals_transformers_on_the_shape_of_each_generation(name: str, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, **GENERATIONS[name])
    model, reference = load(folder), oracle(folder)
    stretch(reference, model, len(PROMPT))
    with torch.inference_mode():
        expected = reference(torch.tensor([PROMPT])).logits[0]
    logits, _ = read(model, PROMPT)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", GENERATIONS)
def test_greedy_tokens_are_those_of_full_passes(name: str, tmp_path: Path) -> None:
    """Cached decode writes what a full forward pass of transformers would choose at each step."""
    folder = make_checkpoint(tmp_path, **GENERATIONS[name])
    model, reference = load(folder), oracle(folder)
    reply = write(model, PROMPT, 24)
    for count, token in enumerate(reply):
        stretch(reference, model, len(PROMPT) + count)
        with torch.inference_mode():
            logits = reference(torch.tensor([PROMPT + reply[:count]])).logits[0, -1]
        best, second = logits.topk(2).values.tolist()
        assert best - second > 1e-3, "two tokens tie: choose another seed"
        assert token == int(logits.argmax())


def test_dynamic_scaling_equals_transformers_where_a_step_ends(tmp_path: Path) -> None:
    """At the end of a step both compute the same frequencies, without any help."""
    folder = make_checkpoint(
        tmp_path, rope_scaling={"type": "dynamic", "factor": 4.0}, max_position_embeddings=16
    )
    ids = (PROMPT * 2)[:32]
    with torch.inference_mode():
        expected = oracle(folder)(torch.tensor([ids])).logits[0]
    logits, _ = read(load(folder), ids)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_reading_in_chunks_changes_nothing(chunk: int, tmp_path: Path) -> None:
    model = load(make_checkpoint(tmp_path))
    whole, _ = read(model, PROMPT)
    chunked, _ = read(model, PROMPT, chunk=chunk)
    torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-4)


def test_rows_of_different_length_share_a_pass(tmp_path: Path) -> None:
    model = load(make_checkpoint(tmp_path))
    prompts = [PROMPT[:4], PROMPT, PROMPT[5:17]]
    alone = [read(model, prompt)[0][-1] for prompt in prompts]
    slots = []
    for prompt in prompts:
        slot = Slot(model.cache_shape)
        model.make_room(slot, len(prompt))
        slots.append(slot)
    # the first row reads one token at a time while the others read several
    ids = [token for prompt in prompts for token in prompt[:-1]]
    model.forward(ids, [(slot, len(p) - 1) for slot, p in zip(slots, prompts, strict=True)])
    together = model.forward([p[-1] for p in prompts], [(slot, 1) for slot in slots])
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-4)


def test_shards_and_a_single_file_are_the_same_model(tmp_path: Path) -> None:
    single, _ = read(load(make_checkpoint(tmp_path / "single")), PROMPT)
    sharded, _ = read(load(make_checkpoint(tmp_path / "sharded", num_shards=3)), PROMPT)
    assert torch.equal(single, sharded)


def dequantized_copy(folder: Path, copy: Path, **changes: Any) -> Path:
    """The checkpoint whose float weights are exactly what the int8 ones in `folder` mean."""
    make_checkpoint(copy, **changes)
    stored = load_file(folder / "model.safetensors")
    plain = {}
    for name, tensor in stored.items():
        if name.endswith("_scale"):
            continue
        scale = stored.get(f"{name}_scale")
        plain[name] = tensor if scale is None else tensor.float() * scale
    save_weights(copy, plain)
    return copy


def test_compressed_tensors_int8_in_float32_is_exactly_what_is_stored(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "int8", int8=True, attention_bias=True)
    plain = dequantized_copy(folder, tmp_path / "plain", attention_bias=True)
    with torch.inference_mode():
        expected = oracle(plain)(torch.tensor([PROMPT])).logits[0]
    logits, _ = read(load(folder), PROMPT)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_stays_within_its_tolerance_of_transformers_in_float32(tmp_path: Path) -> None:
    """bfloat16 has 8 bits: over three layers logits move by up to 5 % of the largest."""
    folder = make_checkpoint(tmp_path)
    with torch.inference_mode():
        exact = oracle(folder)(torch.tensor([PROMPT])).logits[0]
        theirs = oracle(folder, torch.bfloat16)(torch.tensor([PROMPT])).logits[0].float()
    ours, _ = read(load(folder, "bf16"), PROMPT)
    scale = exact.abs().max()
    assert (ours - exact).abs().max() / scale < 0.05
    # not only within a bound, but no further off than the reference in the same precision
    assert (ours - exact).abs().mean() < 1.2 * (theirs - exact).abs().mean()


@pytest.mark.parametrize("rows", ["few", "many"])
def test_int8_stays_close_to_float32(tmp_path: Path, rows: str) -> None:
    """Row-wise int8 and bfloat16 activations; `many` takes the path that multiplies densely."""
    folder = make_checkpoint(tmp_path, hidden_size=64, intermediate_size=160, head_dim=16)
    exact, _ = read(load(folder), PROMPT * 2)
    ours, _ = read(load(folder, "int8"), PROMPT * 2, chunk=5 if rows == "few" else 99)
    assert (ours - exact).abs().mean() / exact.std() < 0.06


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_weights(folder, tensors)
    with pytest.raises(CheckpointMissing, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        load(folder)


def test_a_tensor_too_many_is_named(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.3.mlp.up_proj.weight"] = torch.zeros(2, 2)
    save_weights(folder, tensors)
    with pytest.raises(CheckpointBroken, match=r"model\.layers\.3"):
        load(folder)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.zeros(31)
    save_weights(folder, tensors)
    with pytest.raises(CheckpointBroken, match=r"model\.norm\.weight has the shape \(31,\)"):
        load(folder)


def test_integers_without_a_scale_are_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, int8=True)
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("_scale")}
    save_weights(folder, tensors)
    with pytest.raises(CheckpointBroken, match="without a scale"):
        load(folder)


def test_tied_weights_may_be_repeated_in_the_file(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, tie_word_embeddings=True)
    expected, _ = read(load(folder), PROMPT)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_weights(folder, tensors)
    logits, _ = read(load(folder), PROMPT)
    assert torch.equal(logits, expected)

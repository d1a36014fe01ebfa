"""LoRA adapters: merged they give what base and change give together; others are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from engine.catalog import is_alike
from engine.checkpoint import open_checkpoint
from engine.errors import CheckpointBroken, CheckpointError, CheckpointMissing, ModelUnsupported
from tests.engine.adapter_files import RANK, merge, write_adapter
from tests.engine.answers import greedy_reply
from tests.engine.checkpoints import make_checkpoint
from tests.engine.gguf_files import write_gguf
from tests.engine.meta_files import write_meta


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("lora") / "base")


CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({}, lambda _: 8 / 4),
    "rank-stabilized": ({"use_rslora": True}, lambda _: 8 / 2),
    "a rank of its own": (
        {"rank_pattern": {"layers.1.mlp.down_proj": 2}},
        lambda name: 8 / 2 if "layers.1.mlp.down_proj" in name else 8 / 4,
    ),
    "an alpha of its own": (
        {"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 2}},
        lambda name: 2 / 4 if "layers.0.self_attn.q_proj" in name else 8 / 4,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_merged_weights_are_base_and_change(case: str, base: Path, tmp_path: Path) -> None:
    config, scaling = CASES[case]
    adapter = write_adapter(base, tmp_path / "adapter", **config)
    merged = open_checkpoint(merge(base, adapter, tmp_path / "merged", scaling))
    ours = open_checkpoint(adapter)
    for name in merged.tensors:
        torch.testing.assert_close(ours.read(name), merged.read(name), rtol=0, atol=1e-5)


def test_every_format_of_the_base_gives_the_same_answer(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter")
    merged = merge(base, adapter, tmp_path / "merged", lambda _: 2)
    expected = greedy_reply(merged).ids
    assert expected != greedy_reply(base).ids
    assert greedy_reply(adapter).ids == expected
    assert greedy_reply(base, adapter=adapter).ids == expected
    gguf = write_gguf(base, tmp_path / "base.gguf")
    assert greedy_reply(gguf, adapter=adapter).ids == expected
    meta = write_meta(base, tmp_path / "meta-instruct", 2)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (meta / name).write_text((base / name).read_text())
    (meta / "tokenizer.model").touch()
    assert greedy_reply(meta, adapter=adapter, allow_pickle=True).ids == expected


def test_a_whole_module_that_was_saved_replaces_the_old_one(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", modules_to_save=["lm_head"])
    path = adapter / "adapter_model.safetensors"
    head = torch.randn(288, 32)
    save_file({**load_file(path), "base_model.model.lm_head.weight": head}, path)
    assert torch.equal(open_checkpoint(adapter).read("lm_head.weight"), head)


def test_an_adapter_may_add_tokens(base: Path, tmp_path: Path) -> None:
    """As Chinese children of LLaMA do: larger tables for input and output, and a tokenizer."""
    adapter = write_adapter(base, tmp_path / "adapter", modules_to_save=["embed_tokens", "lm_head"])
    merged = merge(base, adapter, tmp_path / "merged", lambda _: 2)
    weights = load_file(merged / "model.safetensors")
    added = {}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.cat((weights[name], torch.randn(32, 32)))
        added[f"base_model.model.{name}"] = weights[name]
    save_file(weights, merged / "model.safetensors")
    config = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps({**config, "vocab_size": 320}))
    path = adapter / "adapter_model.safetensors"
    save_file({**load_file(path), **added}, path)
    for folder in (merged, adapter):
        tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        tokenizer.add_tokens(["羊驼"])
        tokenizer.save(str(folder / "tokenizer.json"))
    shutil.copy(base / "tokenizer_config.json", adapter)
    assert open_checkpoint(adapter).config.vocab_size == 320
    question = "一只羊驼"
    assert greedy_reply(adapter, text=question).ids == greedy_reply(merged, text=question).ids
    rest = {name: tensor for name, tensor in load_file(path).items() if "lm_head" not in name}
    save_file(rest, path)
    with pytest.raises(CheckpointBroken, match="lm_head"):
        greedy_reply(adapter)


def test_a_changed_table_of_embeddings(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter")
    path = adapter / "adapter_model.safetensors"
    down, up = torch.randn(RANK, 288), torch.randn(32, RANK)
    prefix = "base_model.model.model.embed_tokens.lora_embedding_"
    save_file({**load_file(path), f"{prefix}A": down, f"{prefix}B": up}, path)
    expected = open_checkpoint(base).read("model.embed_tokens.weight") + 2 * (up @ down).T
    ours = open_checkpoint(adapter).read("model.embed_tokens.weight")
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_the_base_is_found_by_name_beside_the_adapter(base: Path, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "owner" / "name")
    adapter = write_adapter(base, tmp_path / "mine", base_model_name_or_path="owner/name")
    assert open_checkpoint(adapter).name == "mine"
    lost = write_adapter(base, tmp_path / "lost", base_model_name_or_path="nobody/nothing")
    with pytest.raises(CheckpointMissing, match="nobody/nothing"):
        open_checkpoint(lost)
    silent = write_adapter(base, tmp_path / "silent", base_model_name_or_path=None)
    with pytest.raises(CheckpointMissing, match="--adapter"):
        open_checkpoint(silent)


def test_the_base_may_lie_here_in_another_format_alone(base: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    adapter = write_adapter(base, models / "mine", base_model_name_or_path="owner/Tiny-1B-hf")
    expected = greedy_reply(merge(base, adapter, tmp_path / "merged", lambda _: 2)).ids
    meta = write_meta(base, models / "Tiny-1B-instruct", 2)
    with pytest.raises(CheckpointMissing, match="owner/Tiny-1B-hf"):
        open_checkpoint(adapter, allow_pickle=True)  # that is another model
    meta.rename(models / "Tiny-1B")
    assert open_checkpoint(adapter, allow_pickle=True).config.num_hidden_layers == 3
    shutil.rmtree(models / "Tiny-1B")
    write_gguf(base, models / "Tiny-1B.F32.gguf")
    assert greedy_reply(adapter).ids == expected


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("meta-llama/Llama-3.2-1B-Instruct", "Llama3.2-1B-Instruct", True),
        ("meta-llama/Llama-3.2-1B-Instruct", "lm-studio/x/llama-3.2-1b-instruct-Q4_K_M", True),
        ("meta-llama/Meta-Llama-3-8B", "llama.cpp/llama-3-8b-bf16-00001-of-00002", True),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b-chat", True),
        ("owner/Tiny-GGUF", "tiny", True),
        ("meta-llama/Llama-3.2-1B-Instruct", "llama-3.2-1b", False),
        ("meta-llama/Llama-3.2-1B", "llama-3.2-3b", False),
        ("meta-llama/Llama-3.1-8B", "llama-3-8b-Q8_0", False),
    ],
)
def test_names_that_mean_the_same_model(one: str, other: str, alike: bool) -> None:
    assert is_alike(one, other) is is_alike(other, one) is alike


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"bias": "all"},
        {"fan_in_fan_out": True},
        {"init_lora_weights": "pissa_niter_4"},
        {"layer_replication": [[0, 2]]},
        {"rank_pattern": {"(a+)+$": 3}},
        {"r": 0},
        {"r": 5},
        {"lora_alpha": "eight"},
        {"rank_pattern": [1]},
    ],
    ids=str,
)
def test_what_cannot_be_merged_is_refused(
    changes: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(base, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises((ModelUnsupported, CheckpointBroken)):
        open_checkpoint(adapter)


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", hidden_size=64, intermediate_size=64)
    adapter = write_adapter(other, tmp_path / "adapter")
    with pytest.raises(CheckpointBroken, match="another model"):
        open_checkpoint(base, adapter=adapter).read("model.layers.0.self_attn.q_proj.weight")
    deeper = make_checkpoint(tmp_path / "deeper", num_hidden_layers=4)
    with pytest.raises(CheckpointBroken, match=r"layers\.3.*another model"):
        open_checkpoint(base, adapter=write_adapter(deeper, tmp_path / "deep"))


def test_an_int8_base_is_not_merged_into(base: Path, tmp_path: Path) -> None:
    stored = make_checkpoint(tmp_path / "int8", int8=True)
    with pytest.raises(CheckpointBroken, match="int8"):
        open_checkpoint(stored, adapter=write_adapter(base, tmp_path / "adapter"))


def test_a_pickled_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        open_checkpoint(adapter)

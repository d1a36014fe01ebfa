"""Folders as torchtune, LLaMA-Factory and xtuner write them: merged and as adapter, they answer.

The layouts are those of torchtune `FullModelHFCheckpointer.save_checkpoint`, of LLaMA-Factory's
`export` and output folder (transformers' `Trainer` with peft), and of xtuner's `pth_to_hf` and
`merge`. State files beside the weights are pickles; they are never opened.
"""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.checkpoint import open_checkpoint
from engine.errors import CheckpointBroken, CheckpointUnsafe
from tests.engine.adapter_files import merge, write_adapter
from tests.engine.answers import greedy_reply
from tests.engine.checkpoints import make_checkpoint, save_weights
from tests.engine.trap import Trap

Write = Callable[[Path, Path, Path], Path]


def leave_state(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(Trap(folder / "sprung")))


def copy_text(source: Path, folder: Path, *more: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", *more):
        shutil.copy(source / name, folder / name)


def torchtune_merged(base: Path, merged: Path, out: Path) -> Path:
    """One epoch: shards with an index, the adapter in both forms, the base's other files."""
    folder = out / "epoch_0"
    copy_text(base, folder, "config.json")
    save_weights(folder, load_file(merged / "model.safetensors"), num_shards=2)
    adapter = write_adapter(base, out / "adapter-only")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, folder / name)
    leave_state(folder, "adapter_model.pt", "../recipe_state/recipe_state.pt")
    (folder / "original").mkdir()
    (folder / "original" / "params.json").write_text("{}")
    (folder / "original_repo_id.json").write_text('{"repo_id": "meta-llama/Llama-3.2-1B-Instruct"}')
    return folder


def torchtune_adapter(base: Path, merged: Path, out: Path) -> Path:
    """`save_adapter_weights_only`: config and tokenizer of the base come along, its weights not."""
    folder = write_adapter(base, out / "epoch_2")
    config = json.loads((folder / "adapter_config.json").read_text())
    for key in ("bias", "target_modules"):
        config.pop(key)
    config["target_modules"] = ["q_proj", "k_proj", "v_proj", "down_proj"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    copy_text(base, folder, "config.json")
    leave_state(folder, "adapter_model.pt", "adapter_0.pt")
    return folder


def llama_factory_merged(base: Path, merged: Path, out: Path) -> Path:
    """`llamafactory-cli export`: also a file for Ollama and the template on its own."""
    folder = out / "export"
    copy_text(base, folder, "config.json")
    save_weights(folder, load_file(merged / "model.safetensors"), num_shards=3)
    about = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "chat_template.jinja").write_text(about.pop("chat_template"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**about, "padding_side": "left"}))
    (folder / "Modelfile").write_text('FROM .\nTEMPLATE """{{ .Prompt }}"""\n')
    (folder / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6}')
    return folder


def llama_factory_adapter(base: Path, merged: Path, out: Path) -> Path:
    """The folder of a LoRA run with its logs and the checkpoints below it."""
    folder = write_adapter(base, out / "lora" / "sft")
    copy_text(base, folder)
    for name in ("README.md", "all_results.json", "trainer_log.jsonl", "trainer_state.json"):
        (folder / name).write_text("{}")
    (folder / "training_loss.png").write_bytes(b"\x89PNG")
    state = ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin")
    leave_state(folder, *state, *(f"checkpoint-10/{name}" for name in state))
    (folder / "zero_to_fp32.py").write_text("raise SystemExit\n")
    return folder


def xtuner_merged(base: Path, merged: Path, out: Path) -> Path:
    """`xtuner convert merge` writes shards as PyTorch does, in 16 bit elsewhere."""
    folder = out / "merged"
    copy_text(base, folder, "config.json")
    tensors = load_file(merged / "model.safetensors")
    weight_map = {}
    for shard in range(2):
        name = f"pytorch_model-{shard + 1:05d}-of-00002.bin"
        part = {key: tensors[key] for key in list(tensors)[shard::2]}
        torch.save(part, folder / name)
        weight_map.update(dict.fromkeys(part, name))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def xtuner_adapter(base: Path, merged: Path, out: Path) -> Path:
    """`xtuner convert pth_to_hf`: the config of the run lies beside, peft may write a pickle."""
    folder = write_adapter(base, out / "hf")
    path = folder / "adapter_model.safetensors"
    torch.save(load_file(path), folder / "adapter_model.bin")
    path.unlink()
    (folder / "xtuner_config.py").write_text("raise SystemExit\n")
    return folder


PROGRAMS: tuple[Write, ...] = (
    torchtune_merged,
    torchtune_adapter,
    llama_factory_merged,
    llama_factory_adapter,
    xtuner_merged,
    xtuner_adapter,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("trained") / "base")


@pytest.fixture(scope="module")
def merged(base: Path) -> Path:
    adapter = write_adapter(base, base.parent / "adapter")
    return merge(base, adapter, base.parent / "merged", lambda _: 2)


@pytest.fixture(scope="module")
def expected(merged: Path) -> list[int]:
    return greedy_reply(merged).ids


@pytest.mark.parametrize("write", PROGRAMS, ids=lambda write: write.__name__)
def test_what_a_trainer_wrote_answers(
    write: Write, base: Path, merged: Path, expected: list[int], tmp_path: Path
) -> None:
    folder = write(base, merged, tmp_path)
    pickled = write in (xtuner_merged, xtuner_adapter)
    if pickled:
        with pytest.raises(CheckpointUnsafe, match="--allow-pickle"):
            open_checkpoint(folder)
    assert greedy_reply(folder, allow_pickle=pickled).ids == expected
    assert not list(tmp_path.rglob("sprung"))


def test_a_pickle_that_builds_more_than_tensors_is_not_built(
    base: Path, merged: Path, tmp_path: Path
) -> None:
    """Also where the owner allowed pickles: as weights, as an adapter, and cut off."""
    folder = xtuner_merged(base, merged, tmp_path)
    shard = folder / "pytorch_model-00001-of-00002.bin"
    whole = shard.read_bytes()
    torch.save({"model.norm.weight": Trap(tmp_path / "sprung")}, shard)
    with pytest.raises(CheckpointUnsafe, match="no tensor"):
        open_checkpoint(folder, allow_pickle=True)
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointBroken, match="cut off"):
        open_checkpoint(folder, allow_pickle=True)
    adapter = xtuner_adapter(base, merged, tmp_path)
    torch.save({"base_model.model.x": Trap(tmp_path / "sprung")}, adapter / "adapter_model.bin")
    with pytest.raises(CheckpointUnsafe, match="no tensor"):
        open_checkpoint(adapter, allow_pickle=True)
    assert not (tmp_path / "sprung").exists()


def test_safetensors_are_taken_where_both_lie(base: Path, merged: Path, tmp_path: Path) -> None:
    """The pickle is not even opened, allowed or not."""
    folder = shutil.copytree(merged, tmp_path / "both")
    leave_state(folder, "pytorch_model.bin")
    with pytest.raises(CheckpointUnsafe):
        open_checkpoint(folder)
    tensors = open_checkpoint(folder, allow_pickle=True).tensors
    assert tensors.keys() == load_file(merged / "model.safetensors").keys()
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    assert open_checkpoint(folder, allow_pickle=True).tensors.keys() == {"x"}
    assert not (folder / "sprung").exists()

"""Files made to attack: configs that bring code or nonsense, and pickles in every place and name.

Each is refused with a sentence, or never opened; what a pickle would run never runs.
"""

import io
import itertools
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.checkpoint import open_checkpoint
from engine.errors import CheckpointBroken, CheckpointError, CheckpointUnsafe, ModelUnsupported
from engine.opening import open_model
from engine.tokenizer import load_tokenizer
from tests.engine.adapter_files import write_adapter
from tests.engine.checkpoints import BASE, make_checkpoint
from tests.engine.trap import Trap


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("hostile") / "sound", num_hidden_layers=1)


# --- configs --------------------------------------------------------------------------------------

# Keys through which libraries ran code of a model's folder, or might.
CODE_KEYS = (
    "auto_map", "trust_remote_code", "attn_implementation", "_attn_implementation",
    "_attn_implementation_internal", "_attn_implementation_autoset", "_from_class", "__class__",
    "_experts_implementation", "_kernel_config", "_auto_class", "attn_implementation_internal",
)  # fmt: skip
CODE_VALUES: tuple[object, ...] = (
    {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"},
    "someone/kernels-evil:forward",
    True,
    ["evil", "https://example.com/evil.py"],
)
PLACES: dict[str, Callable[[dict[str, Any], str, Any], None]] = {
    "at the top": lambda config, key, value: config.update({key: value}),
    "in an object": lambda config, key, value: config.update(rope_scaling={key: value}),
    "deep down": lambda config, key, value: config.update(task={"a": [{"b": {key: value}}]}),
    "in a list": lambda config, key, value: config.update(id2label=[[{key: value}]]),
}
SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "max_position_embeddings",
)  # fmt: skip
# What stands where a size belongs. JSON as Python reads it knows NaN and Infinity too.
NO_SIZES: tuple[object, ...] = (
    -1, 0, 1 << 62, 1 << 4000, 3.5, float("nan"), float("inf"), "32", "", [], [32], {}, {"x": 1},
    True, False, "__import__('os')",
)  # fmt: skip
NUMBERS: tuple[tuple[str, object], ...] = tuple(
    itertools.product(
        ("rms_norm_eps", "rope_theta"),
        (-1.0, 0, 1e300, float("nan"), float("inf"), "1e-5", [], {}, True),
    )
)
OTHERS: tuple[tuple[str, object], ...] = (
    *(("rope_scaling", {"rope_type": kind}) for kind in ("linear", "yarn", "dynamic", "llama3")),
    *(("rope_scaling", value) for value in ("linear", 4, [1], {"rope_type": "evil", "factor": 2})),
    *(("tie_word_embeddings", value) for value in ("true", 1, [], {})),
    *(("attention_bias", value) for value in ("true", 1, [], {})),
    *(("model_type", value) for value in ("gpt2", "llama4", "", None, 7, [])),
    *(("architectures", value) for value in (["Evil"], "Evil", {"x": 1}, [["x"]])),
    *(("quantization_config", value) for value in ({"quant_method": "gptq"}, "awq", [1], 4)),
    *(("eos_token_id", value) for value in ("x", -1, 1 << 40, [-1], [[1]], 0.5)),
    *(("hidden_act", value) for value in ("gelu", "", 7, ["silu"])),
    *(("head_dim", value) for value in (-2, 3, 1 << 40, "8", 0)),
)


def hostile_configs() -> Iterator[tuple[dict[str, Any], tuple[type[CheckpointError], ...]]]:
    """Each config, and how it is refused."""
    for key, value, place in itertools.product(CODE_KEYS, CODE_VALUES, PLACES.values()):
        config = dict(BASE)
        place(config, key, value)
        yield config, (CheckpointUnsafe,)
    wrong = (CheckpointBroken, ModelUnsupported)
    for key, value in (*itertools.product(SIZES, NO_SIZES), *NUMBERS, *OTHERS):
        yield {**BASE, key: value}, wrong


def test_hostile_configs_are_refused(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "model"))
    num_configs = 0
    for config, kinds in hostile_configs():
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(kinds) as caught:
            open_checkpoint(folder)
        assert len(str(caught.value)) < 1000 and str(caught.value).endswith(".")
        num_configs += 1
    assert num_configs >= 300


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_not_waited_for(name: str, sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "model"))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CheckpointError):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja"],
)
def test_a_huge_file_is_not_read(name: str, sound: Path, tmp_path: Path) -> None:
    """Sparse: it takes no room on the disk, but would in memory."""
    folder = Path(shutil.copytree(sound, tmp_path / "model"))
    if name == "tokenizer.model":
        (folder / "tokenizer.json").unlink()
    with (folder / name).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointBroken, match="more than any real one"):
        open_model(folder)


# --- pickles --------------------------------------------------------------------------------------


def payloads(sprung: Path) -> dict[str, bytes]:
    """The same trap in every form that a library would unpickle."""
    trap = Trap(sprung)
    found = {f"protocol {number}": pickle.dumps(trap, protocol=number) for number in range(6)}
    found["in a dictionary"] = pickle.dumps({"model.norm.weight": trap})
    for name, new in (("archive of torch", True), ("old file of torch", False)):
        saved = io.BytesIO()
        torch.save({"x": trap}, saved, _use_new_zipfile_serialization=new)
        found[name] = saved.getvalue()
    array = io.BytesIO()
    np.save(array, np.array([trap], dtype=object), allow_pickle=True)
    found["array of objects"] = array.getvalue()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("archive/data.pkl", pickle.dumps(trap))
    found["zip"] = archive.getvalue()
    return found


NAMES = (
    "pytorch_model.bin", "weights.pt", "consolidated.00.pth", "model.ckpt", "notes.pkl",
    "data.pickle", "model.h5", "arrays.npy", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json", "config.json", "README.md", "training_args.bin", "optimizer.pt",
)  # fmt: skip
MAY_LIE_THERE = {"README.md", "training_args.bin", "optimizer.pt"}  # nothing ever opens these


def test_pickles_run_in_no_place_and_under_no_name(sound: Path, tmp_path: Path) -> None:
    sprung, num_files = tmp_path / "sprung", 0
    for (form, content), name in itertools.product(payloads(sprung).items(), NAMES):
        folder = Path(shutil.copytree(sound, tmp_path / "model"))
        (folder / name).write_bytes(content)
        for allowed in (False, True):
            try:
                open_checkpoint(folder, allow_pickle=allowed)
                load_tokenizer(folder)
            except CheckpointError as error:
                assert str(error), (form, name)
            else:
                assert name in MAY_LIE_THERE or allowed, (form, name)
            assert not sprung.exists(), (form, name)
        shutil.rmtree(folder)
        num_files += 1
    assert num_files >= 60


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "adapter_model.bin"])
def test_allowed_pickles_build_tensors_or_nothing(name: str, sound: Path, tmp_path: Path) -> None:
    """Where the owner said yes, these files are opened: by the reader that builds tensors only."""
    folder = Path(shutil.copytree(sound, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    if name == "consolidated.00.pth":
        (folder / "config.json").rename(folder / "params.json")
    if name == "adapter_model.bin":
        folder = write_adapter(sound, tmp_path / "adapter")
        (folder / "adapter_model.safetensors").unlink()
    for form, content in payloads(tmp_path / "sprung").items():
        (folder / name).write_bytes(content)
        with pytest.raises((CheckpointUnsafe, CheckpointBroken)):
            open_checkpoint(folder, allow_pickle=True)
        assert not (tmp_path / "sprung").exists(), form

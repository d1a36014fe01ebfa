"""Memory said beforehand: the arithmetic, and one model of each kind really loaded."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.fit import CASES, SHAPES, Case, compare, measure, write_checkpoint
from engine.checkpoint import open_checkpoint
from engine.fit import predict, weight_bytes
from engine.inspect import describe_checkpoint
from engine.options import Options
from engine.shapes import shape
from engine.weights import load_llama
from tests.engine.checkpoints import make_checkpoint

PRECISIONS = ("fp32", "bf16", "int8", "int4")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_weights_are_what_a_loaded_model_holds(precision: str, tmp_path: Path) -> None:
    folder = make_checkpoint(
        tmp_path / "m", hidden_size=128, intermediate_size=256, num_attention_heads=4
    )
    checkpoint = open_checkpoint(folder)
    model = load_llama(checkpoint, precision, torch.device("cpu"))  # type: ignore[arg-type]
    vectors = 4 * 128 * (2 * checkpoint.config.num_hidden_layers + 1)
    said = weight_bytes(checkpoint.config, precision)  # type: ignore[arg-type]
    assert abs(said - vectors - model.weight_bytes) <= 0.01 * model.weight_bytes


def test_pickled_weights_count_as_the_same_ones_in_safetensors(tmp_path: Path) -> None:
    safe = make_checkpoint(tmp_path / "safe", torch_dtype="bfloat16")
    tensors = load_file(safe / "model.safetensors")
    pickled = tmp_path / "pickled"
    shutil.copytree(safe, pickled, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(tensors, pickled / "pytorch_model.bin")
    first, second = open_checkpoint(safe), open_checkpoint(pickled, allow_pickle=True)
    assert second.weight_bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert second.weight_bytes == first.weight_bytes
    assert predict(second.config, "bf16", context=64) == predict(first.config, "bf16", context=64)
    options = Options(device="cpu", allow_pickle=True)
    stored = [describe_checkpoint(path, options).splitlines()[-1] for path in (safe, pickled)]
    assert stored[0] == stored[1] != ""


def test_more_users_and_context_take_what_their_tokens_take() -> None:
    config = shape("llama-3.1-8b")
    one = predict(config, "int8", context=4096)
    four = predict(config, "int8", context=4096, users=4)
    assert four.cache_bytes == 4 * one.cache_bytes == 4 * 4096 * 128 * 1024
    assert one.weight_bytes == four.weight_bytes
    assert four.peak_bytes >= one.peak_bytes + 3 * one.cache_bytes - one.loading_bytes
    assert predict(config, "int4", context=4096).peak_bytes < one.peak_bytes


def test_loading_a_real_shape_in_bfloat16_never_takes_a_tenth_more() -> None:
    for name in ("llama-2-7b", "llama-3.1-8b", "llama-3.2-1b", "llama-3.1-70b"):
        need = predict(shape(name), "bf16", context=256)
        assert need.loading_bytes <= 1.1 * need.weight_bytes


def check(case: Case, folder: Path) -> None:
    row = compare(case, measure(folder, case), folder)
    assert abs(float(row["error"])) <= 0.10, row
    assert float(row["given_back"]) >= 0.95, row
    assert case.precision != "bf16" or float(row["loading"]) <= 1.1, row


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's own peak")
def test_the_prediction_holds_for_a_child_process(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "tinyllama")
    check(Case("tinyllama", "bf16", 512, 1), tmp_path)


@pytest.mark.full
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's own peak")
@pytest.mark.parametrize("name", SHAPES)
def test_the_prediction_holds_for_every_case(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, name)
    for case in CASES:
        if case.shape == name:
            check(case, tmp_path)

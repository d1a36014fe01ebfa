"""The bench and the inspector: what they say must agree with what is loaded."""

from pathlib import Path

import pytest
import torch

from engine.bench import RandomWeights, run_bench
from engine.checkpoint import open_checkpoint
from engine.config import parse_config
from engine.errors import ModelUnsupported
from engine.fit import fit, weight_bytes
from engine.inspect import describe, describe_checkpoint, describe_known
from engine.options import Options
from engine.quantize import Precision
from engine.shapes import SHAPES, shape
from engine.weights import load_llama, tensor_shapes
from tests.engine.checkpoints import BASE, make_checkpoint


def test_a_checkpoint_is_measured(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "tiny")
    result = run_bench(folder, Options(device="cpu", threads=1), num_prompt=20, num_new=4)
    assert result["model"] == "tiny"
    assert result["precision"] == "fp32" and result["threads"] == 1
    assert float(result["decode_tokens_per_second"]) > 0
    assert float(result["prefill_tokens_per_second"]) > 0
    assert int(result["peak_bytes"]) > int(result["weight_bytes"]) > 0


def test_an_unknown_shape_names_the_known_ones() -> None:
    with pytest.raises(ModelUnsupported, match="llama-3.2-1b"):
        run_bench(shape_name="llama-9")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True, "attention_bias": True}])
def test_predicted_weights_are_those_that_are_loaded(
    precision: Precision, changes: dict[str, bool]
) -> None:
    config = parse_config({**BASE, **changes})
    model = load_llama(RandomWeights(config), precision, torch.device("cpu"))
    vectors = weight_bytes(config, precision) - model.weight_bytes  # norms and biases
    assert 0 < vectors < 0.06 * model.weight_bytes


def test_named_tensors_are_those_of_a_checkpoint(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, attention_bias=True, mlp_bias=True)
    checkpoint = open_checkpoint(folder)
    stored = {name: spec.shape for name, spec in checkpoint.tensors.items()}
    assert tensor_shapes(checkpoint.config) == stored


def test_what_fits_a_24_gb_card() -> None:
    """Llama-3.1-8B: 16 GB of bfloat16 weights leave room for some context; 70B fits in no way."""
    free = 24 * 10**9
    eight, seventy = shape("llama-3.1-8b"), shape("llama-3.1-70b")
    assert fit(eight, "fp32", free).max_context == 0
    assert fit(eight, "bf16", free).max_context == 33_103
    assert fit(eight, "int4", free).max_context > fit(eight, "int8", free).max_context > 80_000
    assert fit(seventy, "int4", free).max_context == 0


def test_the_description_says_what_sharing_keys_saves() -> None:
    text = describe(shape("llama-3.1-8b"), device="cpu")
    assert "128 KiB a token, 16 GiB for the whole context" in text
    assert "512 KiB a token, 64 GiB for the whole context" in text
    assert "4 query heads share" in text
    mha = describe(shape("llama-2-7b"), device="cpu")
    assert "512 KiB a token, 2 GiB" in mha and "With multi-head" not in mha


def test_a_folder_is_described_as_it_is_stored(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "tiny-int8", int8=True)
    text = describe_checkpoint(folder, Options(device="cpu"))
    assert text.startswith("tiny-int8: ") and text.endswith("(int8).")


def test_every_known_shape_is_listed() -> None:
    listed = describe_known(device="cpu")
    assert all(name in listed for name in SHAPES)

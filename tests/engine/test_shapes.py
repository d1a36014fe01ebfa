"""What `inspect` says of every public Llama: layers, heads, cache per token, context, kind."""

import pytest

from engine.config import parse_config
from engine.inspect import describe
from engine.shapes import SHAPES, shape
from tests.engine.published import ROWS, Row, config_of

# KiB of keys and values a token in 16 bit; with every query head having its own; context.
TABLE = {
    "llama-1-7b": (512, 512, 2048),
    "llama-1-13b": (800, 800, 2048),
    "llama-1-33b": (1560, 1560, 2048),
    "llama-1-65b": (2560, 2560, 2048),
    "llama-2-7b": (512, 512, 4096),
    "llama-2-13b": (800, 800, 4096),
    "llama-2-34b": (192, 1536, 4096),
    "llama-2-70b": (320, 2560, 4096),
    "code-llama-7b": (512, 512, 16384),
    "code-llama-13b": (800, 800, 16384),
    "code-llama-34b": (192, 1536, 16384),
    "llama-3-8b": (128, 512, 8192),
    "llama-3-70b": (320, 2560, 8192),
    "llama-3.1-8b": (128, 512, 131072),
    "llama-3.1-70b": (320, 2560, 131072),
    "llama-3.1-405b": (504, 8064, 131072),
    "llama-3.2-1b": (32, 128, 131072),
    "llama-3.2-3b": (112, 336, 131072),
}


@pytest.mark.parametrize("name", TABLE)
def test_every_row_of_the_architecture_table(name: str) -> None:
    token, as_mha, context = TABLE[name]
    config, text = shape(name), describe(shape(name), name=name, device="cpu")
    assert config.kv_bytes_per_token(2) == token << 10
    group = config.num_attention_heads // config.num_key_value_heads
    assert token * group == as_mha
    assert f"context {context:,} tokens" in text and f"{config.num_parameters:,} param" in text
    assert ("grouped-query attention" in text) == (as_mha != token)
    assert ("With multi-head attention it would be" in text) == (as_mha != token)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_positions_are_rotated_as_published(row: Row) -> None:
    name = row.name.lower().replace(" ", "-")
    if name in SHAPES:
        assert shape(name).rope == parse_config(config_of(row)).rope
    else:
        assert name in ("code-llama-70b", "llama-3.3-70b"), "as the shapes of others"


def test_no_public_shape_is_left_out() -> None:
    rest = set(SHAPES) - set(TABLE)
    assert all(name.startswith(("smollm2", "tinyllama", "llama-guard")) for name in rest)

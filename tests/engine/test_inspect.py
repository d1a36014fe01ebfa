"""`python -m engine inspect` tells the truth for every public Llama's architecture."""

from __future__ import annotations

import pytest

from engine.config import parse_config
from engine.inspect import describe
from tests.engine.published import ROWS, Row, config_of


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_described_as_it_is(row: Row) -> None:
    text = describe(parse_config(config_of(row)), name=row.name, device="cpu")
    assert f"{row.layers} layers of {row.dim}, feed-forward {row.ffn}" in text
    assert f"vocabulary {row.vocab:,} ({'one table' if row.tied else 'two tables'}" in text
    heads = f"{row.heads} query heads over {row.kv_heads} key-value heads of"
    assert f"{heads} {row.dim // row.heads}:" in text
    assert f"context {row.context:,} tokens, rotary theta {row.theta:g}" in text
    assert (f"llama3 scaling × {row.factor:g}" in text) is bool(row.factor)
    assert f"KV cache in 16 bit: {in_binary(row.kib)} a token" in text
    multi_head = f"With multi-head attention it would be {in_binary(row.kib_if_mha)} a token"
    assert (multi_head in text) is (row.kv_heads != row.heads)
    kind = "grouped-query" if row.kv_heads != row.heads else "multi-head"
    assert f"{kind} attention (" in text


def in_binary(kib: int) -> str:
    return f"{kib} KiB" if kib < 1024 else f"{kib / 1024:.4g} MiB"

"""The chat model's own tokens: any text survives, and nobody can type a special one."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from training.made import made_rows
from training.packing import Encoder
from training.tokenizer import SPECIAL
from training.tokenizer_sizes import try_size


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        " two  spaces\n\n\ttab",
        "Ünïcode – ありがとう 你好",
        "👩‍👩‍👧",
        "1234",
        "\x00\x7f",
        "a\r\nb",
    ],
)
def test_any_text_survives_the_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_every_byte_has_a_token_and_digits_stay_single(tokenizer: Tokenizer) -> None:
    letters = {token for token in tokenizer.get_vocab() if len(token) == 1}
    assert len(letters) == 256
    assert len(tokenizer.encode("2026").ids) == 4
    assert tokenizer.get_vocab_size() <= 400


def test_special_strings_in_a_text_stay_text(tokenizer: Tokenizer) -> None:
    encoder = Encoder(tokenizer, 256)
    special = {tokenizer.token_to_id(text) for text in SPECIAL}
    ids = encoder.words("".join(SPECIAL))
    assert not special & set(ids)
    assert tokenizer.decode(ids) == "".join(SPECIAL)


def test_a_larger_vocabulary_says_the_same_text_in_fewer_tokens() -> None:
    rows = list(made_rows("passages", 60, seed=1))
    small, large = (try_size(size, rows[:50], rows[50:], num_bytes=4_000) for size in (300, 420))
    assert large.bytes_per_token > small.bytes_per_token
    assert 4_000 <= small.tokens * small.bytes_per_token < 40_000  # a step is never cut
    assert 0 < small.bits_per_byte < 12 and 0 < large.bits_per_byte < 12

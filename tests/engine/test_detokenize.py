"""Streamed text is the text of all ids, in whole characters, and shows no part of a stop string."""

import random
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.detokenize import Detokenizer
from engine.tokenizer import Tokenizer, load_tokenizer
from tests.engine import tiny_tokenizers as tiny

KINDS: dict[str, Callable[[Path], Path]] = {
    "byte-level": tiny.write_byte_level,
    "ranks": tiny.write_ranks,
    "sentencepiece": tiny.write_sentencepiece,
}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    return load_tokenizer(KINDS[request.param](tmp_path_factory.mktemp("model")))


def streamed(detokenizer: Detokenizer, ids: list[int]) -> list[str]:
    return [*map(detokenizer.push, ids), detokenizer.flush()]


def cut(text: str, stop: list[str]) -> str:
    """`text` before the stop string that is complete first."""
    ends = [(text.find(s) + len(s), -len(s)) for s in stop if s in text]
    if not ends:
        return text
    first = min(end for end, _ in ends)
    return text[: min(end + size for end, size in ends if end == first)]


@pytest.mark.parametrize("continues", [False, True])
def test_random_ids_stream_to_what_they_decode_to(tokenizer: Tokenizer, continues: bool) -> None:
    rng = random.Random(11)
    for _ in range(1500):
        ids = [rng.randrange(tokenizer.vocab_size) for _ in range(rng.randrange(12))]
        parts = streamed(Detokenizer(tokenizer, continues=continues), ids)
        whole = tokenizer.decode(ids, continues=continues)
        assert "".join(parts) == whole
        for text in accumulate(parts):
            assert whole.startswith(text)


def test_a_stream_cut_anywhere_ends_as_the_ids_so_far_decode(tokenizer: Tokenizer) -> None:
    rng = random.Random(12)
    text = "naïve 你好 🙂🚀 x\n" * 3
    broken = [rng.randrange(tokenizer.vocab_size) for _ in range(30)]
    for ids in (tokenizer.encode(text), broken):
        for length in range(len(ids) + 1):
            parts = streamed(Detokenizer(tokenizer), ids[:length])
            assert "".join(parts) == tokenizer.decode(ids[:length])


def test_only_whole_characters_come_out(tokenizer: Tokenizer) -> None:
    text = "é你🙂 🚀ü"
    detokenizer = Detokenizer(tokenizer)
    parts = streamed(detokenizer, tokenizer.encode(text))
    assert "".join(parts) == text
    assert all("\ufffd" not in part for part in parts)


def bytes_as_ids(tokenizer: Tokenizer, content: bytes) -> list[int]:
    """One id per byte, as byte fallback writes what the vocabulary lacks."""
    single = {}
    for id in range(tokenizer.vocab_size):  # fallback pieces stand before others of one byte
        single.setdefault(tokenizer.token_bytes(id), id)
    return [single[bytes([byte])] for byte in content]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(content=st.binary(max_size=24), end=st.integers(0, 24))
def test_any_bytes_in_any_split(content: bytes, end: int, tokenizer: Tokenizer) -> None:
    ids = bytes_as_ids(tokenizer, content)[:end]
    parts = streamed(Detokenizer(tokenizer, continues=True), ids)
    assert "".join(parts) == content[:end].decode("utf-8", "replace")


def test_a_cut_character_becomes_one_replacement_at_the_end(tokenizer: Tokenizer) -> None:
    ids = bytes_as_ids(tokenizer, "a🙂".encode()[:-1])
    detokenizer = Detokenizer(tokenizer, continues=True)
    assert "".join(map(detokenizer.push, ids)) == "a"
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.flush() == ""


def test_control_tokens_are_silent(tokenizer: Tokenizer) -> None:
    assert tokenizer.bos_id is not None
    detokenizer = Detokenizer(tokenizer)
    ids = [tokenizer.bos_id, *tokenizer.encode("Hi"), *sorted(tokenizer.special_ids)[:3]]
    assert "".join(streamed(detokenizer, ids)) == "Hi"


@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [
        ("Hello END more", ["END"], "Hello "),
        ("EN EN END", ["END"], "EN EN "),
        ("ENEND", ["END"], "EN"),
        ("aab", ["aab"], ""),
        ("aaab", ["aab"], "a"),
        ("one\n\nUser: two", ["User:", "\n\nUser"], "one"),
        ("a stop string that never comes: EN", ["END"], "a stop string that never comes: EN"),
        ("你好🙂吗", ["🙂"], "你好"),
        ("xyz", ["yz", "z"], "x"),
        ("abcabd", ["abd", "cab"], "ab"),
        ("", ["x"], ""),
    ],
)
def test_stop_strings(text: str, stop: list[str], shown: str, tokenizer: Tokenizer) -> None:
    for ids in (
        tokenizer.encode(text, continues=True),
        bytes_as_ids(tokenizer, text.encode()),
    ):
        detokenizer = Detokenizer(tokenizer, stop, continues=True)
        parts = streamed(detokenizer, ids)
        assert "".join(parts) == shown
        assert detokenizer.stopped is (shown != text)
        assert "".join(streamed(detokenizer, ids)) == "" or not detokenizer.stopped


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    text=st.text("ab\n", max_size=20),
    stop=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
)
def test_stop_strings_token_by_token(text: str, stop: list[str], tokenizer: Tokenizer) -> None:
    """Byte by byte the stop string that is complete first wins, and nothing of it is shown."""
    detokenizer = Detokenizer(tokenizer, stop, continues=True)
    parts = streamed(detokenizer, bytes_as_ids(tokenizer, text.encode()))
    assert "".join(parts) == cut(text, stop)
    assert detokenizer.stopped is any(s in text for s in stop)

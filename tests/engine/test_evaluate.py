"""Bits per byte by a model whose probabilities are known, and files that are broken."""

import json
import lzma
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from engine.base import Message, TokenScores
from engine.chat_format import ChatFormat, chat_format_for
from engine.evaluate import (
    RowsInvalid,
    Score,
    read_conversations,
    read_messages,
    score_conversation,
)
from engine.tokenizer import Tokenizer, load_tokenizer
from tests.engine import tiny_tokenizers as tiny

TALK: list[Message] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": " Hi there, naïve one. "},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "Thanks"},
]


class Known:
    """A model that gives token `id` the probability 2 ** -(1 + id % 5)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.num_passes = 0

    def bits(self, ids: Sequence[int]) -> float:
        return sum(1 + id % 5 for id in ids)

    def score(self, ids_or_text: Sequence[int] | str) -> TokenScores:
        assert not isinstance(ids_or_text, str)
        self.num_passes += 1
        ids = tuple(ids_or_text)
        logprobs = (0.0, *(-math.log(2) * (1 + id % 5) for id in ids[1:]))
        return TokenScores(ids, logprobs, tuple(len(self.tokenizer.token_bytes(id)) for id in ids))


def make(folder: Path, template: str) -> tuple[Known, ChatFormat]:
    write = tiny.write_byte_level if "start_header" in template else tiny.write_sentencepiece
    tokenizer = load_tokenizer(write(folder))
    (folder / "chat_template.jinja").write_text(template)
    return Known(tokenizer), chat_format_for(folder, {}, tokenizer)


@pytest.mark.parametrize("template", ["<|start_header_id|>", "<<SYS>>"])
def test_the_bits_of_the_replies_alone_are_counted(template: str, tmp_path: Path) -> None:
    scorer, form = make(tmp_path, template)
    score = score_conversation(scorer, form, TALK, context_length=10_000)
    replies = ["Hi there, naïve one.", "Paris."]
    # Llama 2 writes a space before a reply, which SentencePiece puts there; Llama 3 a line break.
    bits = sum(scorer.bits(scorer.tokenizer.encode(reply)) for reply in replies)
    assert score.bits == pytest.approx(bits)
    assert score.num_bytes == sum(len(reply.encode()) for reply in replies)
    assert (score.num_replies, score.num_cut) == (2, 0)
    # Llama 2 keeps the white space around an earlier reply, so its prompts differ there.
    assert scorer.num_passes == (1 if form.name == "llama-3" else 2)
    assert score.bits_per_byte == pytest.approx(bits / score.num_bytes)


def test_a_form_that_rewrites_earlier_turns_is_scored_turn_by_turn(tmp_path: Path) -> None:
    scorer, form = make(tmp_path, "<|start_header_id|>")

    class Rewriting:
        """Keeps only the last two messages, so no prompt is the beginning of another."""

        def render(self, messages: Sequence[Message], reply_prefix: str = "") -> list[int]:
            return form.render(messages[-2:], reply_prefix)

    score = score_conversation(scorer, Rewriting(), TALK, context_length=10_000)
    assert scorer.num_passes == 2
    assert score == score_conversation(scorer, form, TALK, context_length=10_000)


def test_what_lies_beyond_the_context_is_not_counted(tmp_path: Path) -> None:
    scorer, form = make(tmp_path, "<|start_header_id|>")
    first = len(form.render(TALK[:2], "Hi there, naïve one."))
    short = score_conversation(scorer, form, TALK, context_length=first)
    alone = score_conversation(scorer, form, TALK[:3], context_length=10_000)
    assert (short.bits, short.num_bytes) == (alone.bits, alone.num_bytes)
    assert (short.num_replies, short.num_cut) == (2, 1)
    shorter = score_conversation(scorer, form, TALK, context_length=first - 1)
    assert 0 < shorter.num_bytes < short.num_bytes
    assert shorter.num_cut == 2


def test_a_talk_without_a_reply_scores_nothing(tmp_path: Path) -> None:
    scorer, form = make(tmp_path, "<|start_header_id|>")
    score = score_conversation(scorer, form, TALK[:2], context_length=100)
    assert score == Score()
    assert math.isnan(score.bits_per_byte)
    assert score_conversation(scorer, form, [], context_length=100) == Score()


def test_files_of_conversations(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"messages": TALK, "source": "x"}) for _ in range(2)) + "\n\n"
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(lines.encode()))
    assert list(read_conversations(tmp_path / "a.jsonl")) == [TALK, TALK]
    assert list(read_conversations(tmp_path / "a.jsonl.xz")) == [TALK, TALK]


def test_a_file_of_messages_in_both_forms(tmp_path: Path) -> None:
    for content in (TALK, {"messages": TALK}):
        (tmp_path / "m.json").write_text(json.dumps(content))
        assert read_messages(tmp_path / "m.json") == TALK


BAD = [
    b"",
    b"{",
    b"3",
    b"[]",
    b'{"messages": []}',
    b'{"messages": [3]}',
    b'{"messages": [{"role": "user"}]}',
    b'{"messages": [{"role": "tool", "content": "x"}]}',
    b'{"messages": [{"role": ["user"], "content": "x"}]}',
    b'{"messages": [{"role": "user", "content": ["x"]}]}',
    b"\xff\xfe\x00",
    b"[" * 50_000,
]


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("read", [read_messages, lambda path: list(read_conversations(path))])
def test_bad_files_are_refused_with_their_name(
    content: bytes, read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    if content or read is read_messages:
        with pytest.raises(RowsInvalid, match=r"bad\.jsonl"):
            read(path)
    else:
        assert read(path) == []


def test_absent_and_broken_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(RowsInvalid, match="cannot be read"):
        list(read_conversations(tmp_path / "none.jsonl"))
    with pytest.raises(RowsInvalid, match="cannot be read"):
        read_messages(tmp_path)
    (tmp_path / "b.xz").write_bytes(b"not xz")
    with pytest.raises(RowsInvalid, match="not a file of JSON lines"):
        list(read_conversations(tmp_path / "b.xz"))

"""Tokenizers of every kind: exact ids, text given back, and no control token out of user text."""

import json
import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.errors import CheckpointBroken, CheckpointMissing, ModelUnsupported
from engine.tokenizer import Tokenizer, load_tokenizer
from engine.tokenizer_model import LLAMA3_PATTERN, read_ranks
from engine.vocabulary import byte_level_alphabet, is_marker
from tests.engine import tiny_tokenizers as tiny
from tests.engine.tokenizer_kinds import KINDS

TEXTS = [
    "Hello there, how are you?",
    " leading and trailing  ",
    "   ",
    "\n\n\t tabs\r\nand lines\n",
    "naïve Füße 你好 🙂🚀 é",
    "1234567 x 0.5",
    "\x00\x07 control characters",
    "a" * 1000,
    "I'm, you're, WE'LL",
    "\ufeffbom \u200bzero width \u202eright to left",
]


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    return load_tokenizer(KINDS[request.param](tmp_path / "model"))


def test_text_comes_back(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.decode(tokenizer.encode(text, continues=True), continues=True) == text
    assert tokenizer.encode("") == []


def test_a_space_in_front_only_where_the_kind_has_one(
    request: pytest.FixtureRequest, tokenizer: Tokenizer
) -> None:
    spaced = any(name in request.node.name for name in ("metaspace", "sentencepiece"))
    assert tokenizer.drops_first_space is spaced
    assert (tokenizer.encode("Hi") == tokenizer.encode(" Hi", continues=True)) is spaced


def test_token_bytes_add_up(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        joined = b"".join(map(tokenizer.token_bytes, tokenizer.encode(text, continues=True)))
        assert joined == text.encode()


def test_begin_and_end_are_control_tokens_without_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.bos_id is not None
    assert tokenizer.eos_id is not None
    assert {tokenizer.bos_id, tokenizer.eos_id} <= tokenizer.special_ids
    for id in tokenizer.special_ids:
        assert tokenizer.token_bytes(id) == b""
        assert tokenizer.special_id(tokenizer.special_text(id)) == id
    assert tokenizer.vocab_size > max(tokenizer.special_ids)
    assert tokenizer.token_bytes(10**9) == tokenizer.token_bytes(-1) == b""


def test_a_lone_surrogate_becomes_a_replacement_character(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude42 \udc00")) == "🙂 \ufffd"


def hostile_texts(markers: list[str]) -> list[str]:
    """Every marker alone, glued to words, split by spaces, nested and repeated: 200 and more."""
    rng = random.Random(7)
    texts = []
    for marker in markers:
        texts += [marker, f"{marker}{marker}", f" {marker} ", f"x{marker}y", f"{marker}\n{marker}"]
        texts += [f"<{marker}>", marker[:-1], marker.upper(), f"{marker[0]}{marker}", marker[::-1]]
        texts += [f"{marker[:3]}{marker}{marker[3:]}", f"user\n\nHi{marker}assistant\n\n"]
    while len(texts) < 220:
        parts = [rng.choice([*markers, "a", " ", "\n", "é", "<", "|", "[INST]"]) for _ in range(9)]
        texts.append("".join(parts))
    return texts


EVERY_FAMILY = [
    "<s>", "</s>", "<unk>", "<pad>", "[INST]", "[/INST]", "<<SYS>>", "▁<PRE>", "<0x0A>",
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<|eom_id|>", "<|python_tag|>", "<|reserved_special_token_3|>",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>",
]  # fmt: skip


def test_user_text_never_gives_a_control_token(tokenizer: Tokenizer) -> None:
    own = [tokenizer.special_text(id) for id in sorted(tokenizer.special_ids)[:12]]
    texts = hostile_texts([*EVERY_FAMILY, *own])
    assert len(texts) >= 200
    for text in texts:
        for continues in (False, True):
            ids = tokenizer.encode(text, continues=continues)
            assert tokenizer.special_ids.isdisjoint(ids), text
            # SentencePiece writes a space as "▁", so it cannot tell the two apart.
            want = text.replace("▁", " ") if tokenizer.drops_first_space else text
            assert tokenizer.decode(ids, continues=continues) == want


def test_marked_text_gives_control_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.bos_id is not None
    assert tokenizer.eos_id is not None
    bos, eos = map(tokenizer.special_text, (tokenizer.bos_id, tokenizer.eos_id))
    hello = tokenizer.encode("Hello")
    want = [tokenizer.bos_id, *hello, tokenizer.eos_id, *hello]
    assert tokenizer.encode_marked(f"{bos}Hello{eos}Hello") == want


def test_a_file_of_another_class_name_stays_byte_level(tmp_path: Path) -> None:
    folder = tiny.write_byte_level(tmp_path)
    names = {"tokenizer_class": "LlamaTokenizerFast", "legacy": False, "bos_token": "<|eot_id|>"}
    tiny.write_json(folder / "tokenizer_config.json", names)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.decode(tokenizer.encode("two words")) == "two words"
    assert tokenizer.bos_id == tokenizer.special_id("<|eot_id|>")


def test_an_unmarked_marker_is_a_control_token_and_an_added_word_is_not(tmp_path: Path) -> None:
    folder = tiny.write_byte_level(tmp_path)
    file = tiny.with_added(tiny.byte_level_file(), "<|im_end|>", special=False)
    file = tiny.with_added(file, "Zürich", special=False)
    (folder / "tokenizer.json").write_text(file, encoding="utf-8")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.special_id("<|im_end|>") in tokenizer.special_ids
    assert tokenizer.special_ids.isdisjoint(tokenizer.encode("a<|im_end|>b"))
    ids = tokenizer.encode("in Zürich.")
    assert tokenizer.vocab_size - 1 in ids
    assert tokenizer.decode(ids) == "in Zürich."


def test_tokens_beside_a_sentencepiece_model(tmp_path: Path) -> None:
    folder = tiny.write_sentencepiece(tmp_path)
    size = load_tokenizer(folder).vocab_size
    tiny.write_json(folder / "added_tokens.json", {"<pad>": size})
    tokenizer = load_tokenizer(folder)
    assert tokenizer.special_id("<pad>") == size
    assert tokenizer.vocab_size == size + 1
    assert size not in tokenizer.encode("<pad>")


def test_a_sentencepiece_model_whose_markers_are_user_defined(tmp_path: Path) -> None:
    import io

    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(tiny.SENTENCES * 3),
        model_writer=written,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        user_defined_symbols=["<|user|>", "<mask>"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(written.getvalue())
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.special_id("<|user|>") in tokenizer.special_ids
    ids = tokenizer.encode("a <|user|> b<mask>c")
    assert tokenizer.special_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == "a <|user|> b<mask>c"


def oracle(text: str, ranks: dict[bytes, int]) -> list[int]:
    """tiktoken's rule, written plainly: join the neighbours of lowest rank until none is known."""
    import regex

    ids = []
    for word in regex.findall(LLAMA3_PATTERN, text):
        parts = [bytes([byte]) for byte in word.encode()]
        if word.encode() in ranks:
            parts = [word.encode()]
        while True:
            pairs = [(ranks.get(a + b), i) for i, (a, b) in enumerate(pairwise(parts))]
            known = [(rank, i) for rank, i in pairs if rank is not None]
            if not known:
                break
            at = min(known)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [ranks[part] for part in parts]
    return ids


def test_ranks_are_joined_as_tiktoken_does() -> None:
    vocabulary = read_ranks(tiny.ranks())
    ranks = {piece: id for id, piece in enumerate(vocabulary.pieces) if piece}
    rng = random.Random(3)
    words = " ".join(tiny.SENTENCES).split()
    for _ in range(300):
        text = rng.choice(["", " ", "  "]).join(
            rng.choice([rng.choice(words), rng.choice(words)[:4], "é", "🙂", "\n", "12345", "'s"])
            for _ in range(rng.randrange(1, 12))
        )
        assert vocabulary.encode(text, False) == oracle(text, ranks), text


def test_the_alphabet_of_bytes_is_complete() -> None:
    alphabet = byte_level_alphabet()
    assert sorted(alphabet.values()) == list(range(256))
    assert alphabet["Ġ"] == ord(" ")
    assert alphabet["Ċ"] == ord("\n")


@pytest.mark.parametrize(
    ("piece", "marker"),
    [("<|im_start|>", True), ("[INST]", True), ("▁<PRE>", True), ("<s>", True), ("<0x0A>", False),
     ("Zürich", False), ("    ", False), ("<", False), ("[x]", False), ("<｜User｜>", True)],
)  # fmt: skip
def test_what_reads_like_a_marker(piece: str, marker: bool) -> None:
    assert is_marker(piece) is marker


def broken(name: str, content: bytes) -> Any:
    return pytest.param(name, content, id=f"{name}-{content[:12]!r}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        broken("tokenizer.json", b""),
        broken("tokenizer.json", b"{"),
        broken("tokenizer.json", b"[]"),
        broken("tokenizer.json", b'{"model": 3}'),
        broken(
            "tokenizer.json", b'{"model": {"vocab": {"a": -1}}, "decoder": {"type": "ByteLevel"}}'
        ),
        broken(
            "tokenizer.json",
            b'{"model": {"vocab": {"a": 99999999999}}, "decoder": {"type": "ByteLevel"}}',
        ),
        broken(
            "tokenizer.json", b'{"model": {"vocab": {"a": "x"}}, "decoder": {"type": "ByteLevel"}}'
        ),
        broken("tokenizer.json", b'{"decoder": {"type": "ByteLevel"}, "model": {"vocab": {}}}'),
        broken("tokenizer.json", b"\xff\xfe"),
        broken("tokenizer.json", b"[" * 100000),
        broken("tokenizer.model", b""),
        broken("tokenizer.model", b"\x00" * 100),
        broken("tokenizer.model", b"IQ== 0\nIg== 5\n"),
        broken("tokenizer.model", b"IQ== 0\nnot base64 at all\n"),
        broken("tokenizer.model", tiny.sentencepiece_model()[:500]),
        broken("tokenizer.model", b"\x0a\xff\xff\xff\xff\x0f"),
    ],
)
def test_a_broken_file_is_refused_with_a_sentence(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointBroken, match=name):
        load_tokenizer(tmp_path)


def test_no_tokenizer_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="no tokenizer.json and no tokenizer.model"):
        load_tokenizer(tmp_path)


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path) -> None:
    file = {"model": {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}}
    tiny.write_json(tmp_path / "tokenizer.json", file)
    with pytest.raises(ModelUnsupported, match="neither"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_loses_spaces_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_byte_level(tmp_path)
    file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    file["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, file["pre_tokenizer"]],
    }
    tiny.write_json(folder / "tokenizer.json", file)
    with pytest.raises(CheckpointBroken, match="does not give a text back"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "added_tokens.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"added_tokens_decoder": {"x": 1}, "y": "z"}'])
def test_broken_files_beside_are_refused(name: str, content: str, tmp_path: Path) -> None:
    folder = tiny.write_sentencepiece(tmp_path)
    (folder / name).write_text(content)
    with pytest.raises(CheckpointBroken):
        load_tokenizer(folder)


@pytest.fixture(scope="module")
def llama(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """The real Llama 2 and Llama 3 vocabularies; Llama 2 also as a tokenizer.json."""
    source = shared_data / "llama"
    folders = {name: tmp_path_factory.mktemp(name) for name in ("llama2", "llama2-json", "llama3")}
    shutil.copy(source / "llama2-tokenizer.model", folders["llama2"] / "tokenizer.model")
    shutil.copy(source / "llama3-tokenizer.model", folders["llama3"] / "tokenizer.model")
    converted = tiny.metaspace_file((source / "llama2-tokenizer.model").read_bytes())
    (folders["llama2-json"] / "tokenizer.json").write_text(converted, encoding="utf-8")
    return {name: load_tokenizer(folder) for name, folder in folders.items()}


@pytest.mark.parametrize("name", ["llama2", "llama2-json", "llama3"])
def test_recorded_ids_of_the_real_vocabularies(
    name: str, llama: dict[str, Tokenizer], shared_data: Path
) -> None:
    tokenizer = llama[name]
    vectors = json.loads((shared_data / "llama" / "tokenizer_vectors.json").read_text("utf-8"))
    assert len(vectors) == 47
    for vector in vectors:
        ids = vector[f"{name[:6]}_ids_no_bos"]
        assert tokenizer.encode(vector["text"]) == ids
        assert tokenizer.decode(ids) == vector["text"]


def test_the_special_tokens_of_llama3_have_their_ids(llama: dict[str, Tokenizer]) -> None:
    tokenizer = llama["llama3"]
    assert tokenizer.vocab_size == 128256
    for text, id in (
        ("<|begin_of_text|>", 128000), ("<|end_of_text|>", 128001),
        ("<|finetune_right_pad_id|>", 128004), ("<|start_header_id|>", 128006),
        ("<|end_header_id|>", 128007), ("<|eom_id|>", 128008), ("<|eot_id|>", 128009),
        ("<|python_tag|>", 128010), ("<|reserved_special_token_247|>", 128255),
    ):  # fmt: skip
        assert tokenizer.special_id(text) == id


@pytest.mark.parametrize("name", ["llama2", "llama2-json", "llama3"])
def test_user_text_gives_no_control_token_of_the_real_vocabularies(
    name: str, llama: dict[str, Tokenizer]
) -> None:
    tokenizer = llama[name]
    for text in hostile_texts(EVERY_FAMILY):
        ids = tokenizer.encode(text)
        assert tokenizer.special_ids.isdisjoint(ids), text
        want = text.replace("▁", " ") if tokenizer.drops_first_space else text
        assert tokenizer.decode(ids) == want


def test_recorded_prompts_have_the_recorded_length(
    llama: dict[str, Tokenizer], shared_data: Path
) -> None:
    for name in ("llama32_recorded.json", "llama_guard3_1b_recorded.json"):
        for row in json.loads((shared_data / "llama" / name).read_text("utf-8")):
            assert len(llama["llama3"].encode_marked(row["prompt"])) == row["prompt_tokens"]

"""Small real tokenizers of each kind, trained in a moment on a few sentences."""

import base64
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCES = [
    "Hello there, how are you today? I'm fine, thanks.",
    "The quick brown fox jumps over the lazy dog, 1234 times or 56.",
    "Once upon a time there was a small house by the sea.\n\nIt was blue.",
    "What is the capital of France? The capital of France is Paris.",
    "for i in range(10):\n    print(i)\t# a comment",
    "Füße über Straße, naïve café, 你好世界, emoji 🙂🚀.",
]
LLAMA3_CONTROLS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
)
CHATML_CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@cache
def byte_level_file(controls: tuple[str, ...] = LLAMA3_CONTROLS) -> str:
    """A `tokenizer.json` of 256 bytes, some merges and control tokens at the end."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens(list(controls))
    return str(tokenizer.to_str())


def write_byte_level(folder: Path, controls: tuple[str, ...] = LLAMA3_CONTROLS) -> Path:
    """A folder with a byte-level tokenizer whose first two controls begin and end texts."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(byte_level_file(controls), encoding="utf-8")
    write_json(
        folder / "tokenizer_config.json", {"bos_token": controls[0], "eos_token": controls[1]}
    )
    return folder


@cache
def sentencepiece_model() -> bytes:
    """A SentencePiece BPE with byte fallback and the options of Llama 2's."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 3),
        model_writer=written,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return written.getvalue()


def write_sentencepiece(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    return folder


def write_ranks(folder: Path) -> Path:
    """The bytes and merges of the byte-level file as tiktoken ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(ranks())
    return folder


@cache
def ranks() -> bytes:
    tokens = [bytes([byte]) for byte in range(256)]
    words = sorted({word for text in SENTENCES for word in text.split()})
    pairs = {(" " + word).encode()[:end] for word in words for end in range(2, 8)}
    pairs |= {word.encode()[:end] for word in words for end in range(2, 8)}
    tokens += sorted(pairs - set(tokens), key=lambda token: (len(token), token))
    lines = (base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens))
    return b"".join(lines)


def metaspace_file(content: bytes) -> str:
    """The `tokenizer.json` that converters write for a SentencePiece BPE model."""
    model = sentencepiece.SentencePieceProcessor(model_proto=content)
    names = [model.id_to_piece(id) for id in range(model.get_piece_size())]
    ids = {name: id for id, name in enumerate(names)}
    merges = []
    for name in names:
        cuts = ((name[:i], name[i:]) for i in range(1, len(name)))
        pairs = [(a, b) for a, b in cuts if a in ids and b in ids]
        merges += [(-model.get_score(ids[a + b]), ids[a], ids[b], a, b) for a, b in pairs]
    merges.sort()
    special = [name for name in names if model.is_control(ids[name]) or model.is_unknown(ids[name])]
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [_added(name, ids[name], special=True) for name in special],
            "normalizer": {
                "type": "Sequence",
                "normalizers": [
                    {"type": "Prepend", "prepend": "▁"},
                    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                ],
            },
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                    {"type": "ByteFallback"},
                    {"type": "Fuse"},
                    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
                ],
            },
            "model": {
                "type": "BPE",
                "unk_token": "<unk>",
                "fuse_unk": True,
                "byte_fallback": True,
                "vocab": ids,
                "merges": [[a, b] for *_, a, b in merges],
            },
        },
        ensure_ascii=False,
    )


def _added(content: str, id: int, *, special: bool) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": content, "special": special, **plain}


def with_added(file: str, content: str, *, special: bool) -> str:
    """`file` with one more added token at its end."""
    parsed = json.loads(file)
    used = [*parsed["model"]["vocab"].values(), *(t["id"] for t in parsed["added_tokens"])]
    parsed["added_tokens"].append(_added(content, max(used) + 1, special=special))
    return json.dumps(parsed, ensure_ascii=False)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")

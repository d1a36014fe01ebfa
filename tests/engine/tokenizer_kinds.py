"""The kinds of tokenizer files, each written by the function that makes a tiny one."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.engine import tiny_tokenizers as tiny


def write_metaspace(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = tiny.metaspace_file(tiny.sentencepiece_model())
    (folder / "tokenizer.json").write_text(file, encoding="utf-8")
    names = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
    tiny.write_json(folder / "tokenizer_config.json", names)
    return folder


def write_metaspace_scheme(folder: Path) -> Path:
    """The newer spelling of the same: a Metaspace pre-tokenizer instead of two normalizers."""
    folder = write_metaspace(folder)
    file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    file["normalizer"] = None
    file["pre_tokenizer"] = {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False,
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    return folder


def write_chatml(folder: Path) -> Path:
    return tiny.write_byte_level(folder, tiny.CHATML_CONTROLS)


KINDS: dict[str, Callable[[Path], Path]] = {
    "byte-level": tiny.write_byte_level,
    "chatml": write_chatml,
    "metaspace": write_metaspace,
    "metaspace-scheme": write_metaspace_scheme,
    "ranks": tiny.write_ranks,
    "sentencepiece": tiny.write_sentencepiece,
}

"""Weights, config and tokenizer of a model, whatever their format, and whether they may be opened.

`open_checkpoint` reads headers only: of a folder with safetensors, a GGUF file, one of Meta's own
downloads, or a LoRA adapter with the model under it. It never opens a pickle unless it is told to,
never follows a path out of the folder and never runs anything the folder brings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from engine import catalog
from engine.adapter import Adapter, Changed, is_adapter, open_adapter
from engine.config import LlamaConfig, load_config
from engine.errors import CheckpointBroken, CheckpointMissing
from engine.folder import StoredTensor, inside, stored_weights
from engine.formats.gguf import GgufTensor, read_gguf
from engine.formats.gguf_model import config_of, tensors_by_name
from engine.formats.meta import is_meta, read_meta
from engine.json_values import MAX_TOKENIZER_BYTES, refuse_huge
from engine.quantize import Grouped
from engine.stores import is_gguf

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class Checkpoint:
    """An opened model: config, and where each tensor lies, by its Hugging Face name."""

    path: Path  # the folder, or the GGUF file
    text: Path  # the folder or GGUF file with the tokenizer and the chat template
    config: LlamaConfig
    raw_config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    fingerprint: str
    paired: bool = False  # query and key rows lie in neighbouring pairs, not in two halves

    @property
    def name(self) -> str:
        """What to call it: the folder's or file's name."""
        return self.path.name if self.path.is_dir() else self.path.stem

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors in the files."""
        return sum(spec.num_bytes for spec in self.tensors.values())

    def read(self, name: str) -> Tensor:
        """One tensor by name, on the CPU. Raises `CheckpointMissing` or `CheckpointBroken`."""
        spec = self.tensors.get(name)
        if spec is None:
            raise CheckpointMissing(
                f"The weights of {self.name} lack the tensor {name}: download them again."
            )
        return spec.read()

    def read_grouped(self, name: str) -> Grouped | None:
        """One matrix as the 4-bit groups that it is stored in, None if it is stored otherwise."""
        spec = self.tensors.get(name)
        return spec.read_grouped() if isinstance(spec, GgufTensor) else None


def open_checkpoint(
    path: Path | str, *, adapter: Path | None = None, allow_pickle: bool = False
) -> Checkpoint:
    """Check the files of a model and read its config and headers; weights stay on the disk.

    `path` is a folder, a GGUF file, or the folder of a LoRA adapter; `adapter` is merged into the
    weights as they are read. `allow_pickle` lets Meta's own `.pth` and PyTorch's `.bin` files be
    opened, for tensors only. Raises `CheckpointMissing`, `CheckpointBroken`, `CheckpointUnsafe` or
    `ModelUnsupported`.
    """
    path = Path(path).expanduser()
    if path.is_file():
        checkpoint = _open_gguf(path.resolve())
    elif not path.is_dir():
        raise CheckpointMissing(f"There is no model folder {path}: choose one that exists.")
    elif is_adapter(path := path.resolve()):
        base = base_of(open_adapter(path, allow_pickle=allow_pickle))
        return open_checkpoint(base, adapter=path, allow_pickle=allow_pickle)
    elif is_meta(path) and not (path / "config.json").is_file():
        checkpoint = _open_meta(path, allow_pickle=allow_pickle)
    else:
        checkpoint = _open_folder(path, allow_pickle=allow_pickle)
    if adapter is None:
        return checkpoint
    return _changed(checkpoint, open_adapter(adapter, allow_pickle=allow_pickle))


def _open_folder(folder: Path, *, allow_pickle: bool) -> Checkpoint:
    config, raw_config = load_config(folder)
    tensors, sampled = stored_weights(folder, allow_pickle=allow_pickle)
    digest = hashlib.sha256(sampled)
    _digest_files(digest, folder, ("config.json", *_TOKENIZER_FILES, "tokenizer_config.json"))
    return Checkpoint(folder, folder, config, raw_config, tensors, digest.hexdigest()[:32])


def _digest_files(digest: hashlib._Hash, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if (folder / name).is_file():
            path = inside(folder, name)
            refuse_huge(path, MAX_TOKENIZER_BYTES)
            digest.update(path.read_bytes())


def _open_gguf(path: Path) -> Checkpoint:
    file = read_gguf(path)
    config, raw_config = config_of(file)
    tensors = tensors_by_name(file)
    return Checkpoint(path, path, config, raw_config, tensors, file.fingerprint, paired=True)


def _open_meta(folder: Path, *, allow_pickle: bool) -> Checkpoint:
    config, raw_config, tensors, sampled = read_meta(folder, allow_pickle=allow_pickle)
    # Llama 1 and 2 came with one tokenizer.model beside the folders of all sizes.
    text = folder if (folder / "tokenizer.model").is_file() else folder.parent
    digest = hashlib.sha256(sampled)
    _digest_files(digest, text, ("tokenizer.model",))
    return Checkpoint(
        folder, text, config, raw_config, tensors, digest.hexdigest()[:32], paired=True
    )


def base_of(adapter: Adapter) -> Path:
    """The model that an adapter was trained on: a path, or a name known beside the adapter.

    Where that model lies here in another format alone, it is that. Raises `CheckpointMissing`.
    """
    folder = adapter.folder
    if not adapter.base:
        raise CheckpointMissing(
            f"The adapter {folder.name} does not say which model it belongs to: choose that model, "
            "and give this folder with --adapter."
        )
    for beside in (folder / adapter.base, folder.parent / adapter.base):
        if beside != folder and (beside.is_dir() or is_gguf(beside)):
            return beside
    for models in (folder.parent, folder.parent.parent):
        try:
            return catalog.resolve(adapter.base, models=models)
        except CheckpointMissing:
            if found := catalog.in_another_format(adapter.base, models=models):
                return found
    raise CheckpointMissing(
        f"The adapter {folder.name} belongs to the model {adapter.base}, which is not on this "
        "machine: download it, or choose its folder and give this one with --adapter."
    )


def _changed(base: Checkpoint, adapter: Adapter) -> Checkpoint:
    """`base` with the adapter's changes, which are made when a tensor is read."""
    if base.config.quantized and not base.path.is_file():
        raise CheckpointBroken(
            f"{base.name} is stored in int8; an adapter is merged into the original weights only."
        )
    tensors = dict(base.tensors)
    for name in (*adapter.changes, *adapter.replaced):
        if name not in tensors and not (name == "lm_head.weight" and name in adapter.replaced):
            raise CheckpointBroken(
                f"The adapter {adapter.folder.name} changes {name}, which {base.name} does not "
                "have: it belongs to another model."
            )
    config = base.config
    for name, change in adapter.changes.items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        paired = heads.get(name.split(".")[-2], 0) if base.paired else 0
        tensors[name] = Changed(tensors[name], name, change, paired)
    tensors.update(adapter.replaced)
    table = adapter.replaced.get("model.embed_tokens.weight")
    if table is not None and table.shape:  # of another size where the training added tokens
        config = replace(config, vocab_size=table.shape[0])
    return replace(
        base,
        path=adapter.folder,
        text=text_of(base, adapter),
        config=config,
        tensors=tensors,
        fingerprint=adapter.over(base.fingerprint),
    )


def text_of(base: Checkpoint, adapter: Adapter) -> Path:
    """Where tokenizer and chat template lie: with the adapter, if it brings its own."""
    has_text = any((adapter.folder / name).is_file() for name in _TOKENIZER_FILES)
    return adapter.folder if has_text else base.text

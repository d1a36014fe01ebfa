"""A folder of weights, config and tokenizer: which files it has and whether they may be opened.

`open_checkpoint` reads headers only. It never opens a pickle, never follows a path out of the
folder and never runs anything the folder brings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.base import CheckpointBroken, CheckpointMissing, CheckpointUnsafe, ModelUnsupported
from engine.config import LlamaConfig, load_config, read_json
from engine.formats.safetensors import TensorSpec, foreign_magic, read_header, read_tensor, sample

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Weight and state files that are pickles, or may hold some, whatever wrote them.
_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".npy"})
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """An opened folder: config, and where each tensor lies. Holds no file open."""

    folder: Path
    config: LlamaConfig
    raw_config: Mapping[str, Any]
    tensors: Mapping[str, TensorSpec]
    fingerprint: str

    @property
    def name(self) -> str:
        """What to call it: the folder's name."""
        return self.folder.name

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
        return read_tensor(spec)


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """Check the files in `folder` and read its config and headers; weights stay on the disk.

    Raises `CheckpointMissing`, `CheckpointBroken`, `CheckpointUnsafe` or `ModelUnsupported`.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise CheckpointMissing(f"There is no model folder {folder}: choose one that exists.")
    folder = folder.resolve()
    _refuse_pickles(folder)
    config, raw_config = load_config(folder)
    tensors: dict[str, TensorSpec] = {}
    digest = hashlib.sha256()
    for name, expected in _weight_files(folder).items():
        specs, header = read_header(_inside(folder, name))
        if absent := expected - specs.keys():
            raise CheckpointBroken(
                f"{name} does not hold {min(absent)}, which {INDEX} places there: "
                "download it again."
            )
        if twice := specs.keys() & tensors.keys():
            raise CheckpointBroken(f"{min(twice)} lies in two weight files of {folder.name}.")
        tensors.update(specs)
        digest.update(header)
        digest.update(sample(specs.values()))
    for name in ("config.json", *_TOKENIZER_FILES):
        if (path := folder / name).is_file():
            digest.update(_inside(folder, name).read_bytes() if path.exists() else b"")
    return Checkpoint(folder, config, raw_config, tensors, digest.hexdigest()[:32])


def _refuse_pickles(folder: Path) -> None:
    """Refuse the folder if a pickle lies in it, by its name or by its first bytes."""
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        kind = "a pickle by its name" if path.suffix.lower() in _PICKLE_SUFFIXES else None
        if kind is None and path.suffix != ".zip":
            try:
                with path.open("rb") as file:
                    kind = foreign_magic(file.read(9))
            except OSError:
                continue  # an unreadable file that is needed says so when it is opened
        if kind:
            raise CheckpointUnsafe(
                f"{path.name} in {folder} is {kind}: such files can run code when they are opened. "
                "Use a model in safetensors, or move that file out of the folder."
            )


def _weight_files(folder: Path) -> dict[str, set[str]]:
    """Weight files in the order to read them, each with the tensors an index promises in it."""
    if (folder / INDEX).exists():
        weight_map = read_json(_inside(folder, INDEX)).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointBroken(f"{INDEX} has no weight_map: download it again.")
        files: dict[str, set[str]] = {}
        for tensor, name in weight_map.items():
            if type(name) is not str or not name.endswith(".safetensors"):
                raise CheckpointUnsafe(f"{INDEX} names {name!r}, which is no safetensors file.")
            files.setdefault(name, set()).add(tensor)
        return dict(sorted(files.items()))
    if (folder / SINGLE).exists():
        return {SINGLE: set()}
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(others) == 1 and "adapter" not in others[0]:
        return {others[0]: set()}
    if others and "adapter" in others[0]:
        raise ModelUnsupported(
            f"{folder.name} holds an adapter, not a whole model: merge it into its base model."
        )
    if others:
        raise CheckpointMissing(f"{INDEX} is missing in {folder}: it says which tensor lies where.")
    raise CheckpointMissing(
        f"{SINGLE} is missing in {folder}: download the model again, in safetensors."
    )


def _inside(folder: Path, name: str) -> Path:
    """The real path of `name`, which must lie in `folder`.

    A snapshot of the Hugging Face cache links to `../../blobs`; there the model's whole cache
    folder counts as the folder.
    """
    root = folder.parent.parent if folder.parent.name == "snapshots" else folder
    try:
        path = (folder / name).resolve()
    except (OSError, RuntimeError) as error:
        raise CheckpointBroken(f"{name} in {folder} is a link that leads nowhere.") from error
    if not path.is_relative_to(root):
        raise CheckpointUnsafe(f"{name} leads out of the model folder {folder}: this is refused.")
    if not path.exists():
        raise CheckpointMissing(f"{name} is missing in {folder}: download it again.")
    return path

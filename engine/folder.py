"""Which files of a model's folder hold its weights, and which must not be opened.

Weights are safetensors, found by their index or their name. `pytorch_model.bin`, as older Llamas
and some trainers have it, is a pickle: it counts only where the owner allowed it and there is no
safetensors file. No path leads out of the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from torch import Tensor

from engine.errors import CheckpointBroken, CheckpointMissing, CheckpointUnsafe
from engine.formats.pickled import PickledTensor, read_pickled, sample_of
from engine.formats.safetensors import TensorSpec, foreign_magic, read_header, sample
from engine.json_values import read_json, short

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER, _PICKLED_ADAPTER = "adapter_model.safetensors", "adapter_model.bin"

# Weight and state files that are pickles, or may hold some, whatever wrote them.
_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".npy"})
_PICKLED_WEIGHTS = "pytorch_model*.bin"
# What trainers leave beside the safetensors they write; nothing here ever opens these.
_TRAINING_STATE = (
    "training_args.bin", "optimizer.*", "scheduler.*", "scaler.pt", "rng_state*.pth",
    "recipe_state.*", "adapter_[0-9]*.pt", "adapter_model.pt", "adapter_model.bin",
)  # fmt: skip


class StoredTensor(Protocol):
    """Where a tensor lies, and how to read it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As torch has it, outermost first."""
        ...

    @property
    def num_bytes(self) -> int:
        """Bytes in the files."""
        ...

    def read(self) -> Tensor:
        """The tensor on the CPU, quantized ones in float32. Raises `CheckpointBroken`."""
        ...


T = TypeVar("T", bound=StoredTensor)


@dataclass(frozen=True)
class _Layout:
    """How one kind of weight file is named."""

    index: str
    single: str
    suffix: str


_SAFETENSORS = _Layout(INDEX, SINGLE, ".safetensors")
_PICKLED = _Layout("pytorch_model.bin.index.json", "pytorch_model.bin", ".bin")


def stored_weights(
    folder: Path, *, allow_pickle: bool = False
) -> tuple[Mapping[str, StoredTensor], bytes]:
    """The tensors of a folder, and bytes that identify them.

    Raises `CheckpointUnsafe` for pickles that were not allowed, `CheckpointMissing` or
    `CheckpointBroken` for files that do not belong together.
    """
    refuse_pickles(folder, allow_pickle=allow_pickle)
    if allow_pickle and has_pickled_weights(folder) and not any(folder.glob("*.safetensors")):
        return _weights(folder, _PICKLED, _read_pickled)
    return weight_specs(folder)


def weight_specs(folder: Path) -> tuple[dict[str, TensorSpec], bytes]:
    """The tensors of all safetensors files in `folder`, and bytes that identify them."""
    return _weights(folder, _SAFETENSORS, _read_specs)


def adapter_weights(
    folder: Path, *, allow_pickle: bool
) -> tuple[Mapping[str, StoredTensor], bytes]:
    """As `stored_weights`, of a LoRA adapter, whose weights are one file."""
    if (folder / ADAPTER).is_file():
        return _read_specs(inside(folder, ADAPTER))
    pickled = folder / _PICKLED_ADAPTER
    if pickled.is_file() and allow_pickle:
        return _read_pickled(inside(folder, _PICKLED_ADAPTER))
    if any(folder.glob("adapter_model.*")):
        raise CheckpointUnsafe(
            f"The adapter in {folder} is stored as a pickle, which can run code when it is opened. "
            f"Save it again as {ADAPTER}, or, if you trust who made {_PICKLED_ADAPTER}, say so "
            "with --allow-pickle."
        )
    raise CheckpointMissing(f"{ADAPTER} is missing in {folder}: copy it there.")


def has_pickled_weights(folder: Path) -> bool:
    """Whether the folder holds weights as PyTorch itself writes them."""
    return next(folder.glob(_PICKLED_WEIGHTS), None) is not None


def _read_specs(path: Path) -> tuple[dict[str, TensorSpec], bytes]:
    specs, header = read_header(path)
    return specs, header + sample(specs.values())


def _read_pickled(path: Path) -> tuple[dict[str, PickledTensor], bytes]:
    tensors = read_pickled(path)
    sampled = (name.encode() + sample_of(tensor) for name, tensor in tensors.items())
    return {name: PickledTensor(tensor) for name, tensor in tensors.items()}, b"".join(sampled)


def _weights(
    folder: Path, layout: _Layout, read: Callable[[Path], tuple[dict[str, T], bytes]]
) -> tuple[dict[str, T], bytes]:
    tensors: dict[str, T] = {}
    sampled = b""
    for name, expected in _weight_files(folder, layout).items():
        found, identity = read(inside(folder, name))
        if absent := expected - found.keys():
            raise CheckpointBroken(
                f"{name} does not hold {min(absent)}, which {layout.index} places there: "
                "download it again."
            )
        if twice := found.keys() & tensors.keys():
            raise CheckpointBroken(f"{min(twice)} lies in two weight files of {folder.name}.")
        tensors.update(found)
        sampled += identity
    return tensors, sampled


def _weight_files(folder: Path, layout: _Layout) -> dict[str, set[str]]:
    """Weight files in the order to read them, each with the tensors an index promises in it."""
    index, single, suffix = layout.index, layout.single, layout.suffix
    if (folder / index).exists():
        weight_map = read_json(inside(folder, index)).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointBroken(f"{index} has no weight_map: download it again.")
        files: dict[str, set[str]] = {}
        for tensor, name in weight_map.items():
            if type(name) is not str or not name.endswith(suffix):
                raise CheckpointUnsafe(f"{index} names {short(name)}, which is no {suffix} file.")
            files.setdefault(name, set()).add(tensor)
        return dict(sorted(files.items()))
    if (folder / single).exists():
        return {single: set()}
    found = (path.name for path in folder.glob(f"*{suffix}"))
    others = sorted(name for name in found if not name.startswith("adapter"))
    if len(others) == 1:
        return {others[0]: set()}
    if others:
        raise CheckpointMissing(f"{index} is missing in {folder}: it says which tensor lies where.")
    raise CheckpointMissing(
        f"{single} is missing in {folder}: download the model again, in safetensors."
    )


def refuse_pickles(folder: Path, *, allow_pickle: bool = False) -> None:
    """Refuse the folder if a pickle lies in it, by its name or by its first bytes.

    `allow_pickle` lets PyTorch's own weight files lie there, and nothing else.
    """
    for path in sorted(folder.iterdir()):
        if not path.is_file() or any(map(path.match, _TRAINING_STATE)):
            continue
        weights = path.match(_PICKLED_WEIGHTS)
        if weights and allow_pickle:
            continue
        if kind := _kind_of_pickle(path):
            next_step = (
                "If you trust who made it, say so with --allow-pickle; else use the same model in "
                "safetensors."
                if weights
                else "Use a model in safetensors, or move that file out of the folder."
            )
            raise CheckpointUnsafe(
                f"{path.name} in {folder} is {kind}: such files can run code when they are opened. "
                f"{next_step}"
            )


def _kind_of_pickle(path: Path) -> str | None:
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        return "a pickle by its name"
    if path.suffix == ".zip":
        return None
    try:
        with path.open("rb") as file:
            return foreign_magic(file.read(9))
    except OSError:
        return None  # an unreadable file that is needed says so when it is opened


def inside(folder: Path, name: str) -> Path:
    """The real path of the file `name`, which must lie in `folder`.

    A snapshot of the Hugging Face cache links to `../../blobs`; there the model's whole cache
    folder counts as the folder. Raises `CheckpointUnsafe`, `CheckpointMissing`, `CheckpointBroken`.
    """
    root = folder.parent.parent if folder.parent.name == "snapshots" else folder
    try:
        path = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: a zero byte in the name
        raise CheckpointBroken(f"{short(name)} in {folder} leads nowhere.") from error
    if not path.is_relative_to(root):
        raise CheckpointUnsafe(f"{name} leads out of the model folder {folder}: this is refused.")
    if not path.is_file():
        raise CheckpointMissing(f"{name} is missing in {folder}: download it again.")
    return path

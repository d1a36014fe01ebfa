"""A model in several places: accelerate's hooks bring weights and activations together.

Each part of the model (the embeddings, a layer, the last norm, the head) becomes a module whose
parameters are the part's own tensors, and `dispatch_model` puts a hook before and behind it. What
lies on a GPU stays there, and activations come to it; what lies in main memory or on the disk is
brought before the part computes and let go of behind it. Which part lies where is a `Placement`.
Keys and values lie where their layer computes, so the cache and the scheduler see one model.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import Tensor, nn

from engine.bandwidth import DISK, MEMORY
from engine.errors import DeviceOutOfMemory
from engine.placement import Placement
from engine.plans import Matrix, Plan

if TYPE_CHECKING:
    from engine.llama import Block, Llama, Norm

_PREFIX = "layers-"  # of a folder with weights, then the number of the process that reads them
_NOTHING = torch.empty(0)


class Part(nn.Module):
    """A part of a model as accelerate sees it: its weights as parameters, its work as `forward`."""

    def __init__(self, compute: Callable[..., Tensor], owners: Iterator[object]) -> None:
        """`owners` are the objects that hold the tensors which `compute` works with."""
        super().__init__()
        self._compute = compute
        self._homes: list[tuple[object, str]] = []
        self.is_brought = False  # for every pass, and let go of behind it
        for owner in owners:
            for name, value in vars(owner).items():
                if isinstance(value, Tensor):
                    parameter = nn.Parameter(value, requires_grad=False)
                    self.register_parameter(f"tensor{len(self._homes)}", parameter)
                    self._homes.append((owner, name))

    def forward(self, *given: Any) -> Tensor:
        """Compute, with the parameters as they are now where `compute` looks for them."""
        if not self.is_brought:
            return self._compute(*given)
        self.hand_over()
        try:
            return self._compute(*given)
        finally:
            self.take_back()

    def hand_over(self) -> None:
        """Give the owners their tensors."""
        for (owner, name), parameter in zip(self._homes, self.parameters(), strict=True):
            setattr(owner, name, parameter.data)

    def take_back(self) -> None:
        """Leave the owners without them, so that the parameters alone hold the memory."""
        for owner, name in self._homes:
            setattr(owner, name, _NOTHING)


class Dispatch:
    """Takes the parts of one model to their places while it is loaded, then sets the hooks."""

    def __init__(self, placement: Placement, folder: Path | None = None) -> None:
        """`folder` takes what lies on the disk, in a folder of its own until `close`."""
        self.placement = placement
        self._parts, self._layers = nn.Module(), nn.ModuleList()
        self._index: dict[str, Any] = {}
        self._folder: Path | None = None
        if placement.brought_bytes(DISK):
            assert folder is not None, "a placement on the disk needs a folder"
            _remove_left(folder)
            prefix = f"{_PREFIX}{psutil.Process().pid}-"
            self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))

    def device(self, part: str) -> torch.device:
        """Where `part` is to be made."""
        return self.placement.device(part)

    def settle(self, name: str, made: Block | Matrix | Norm) -> None:
        """Take a part that was just made to its place. Raises `DeviceOutOfMemory`."""
        compute, owners = _anatomy(made)
        part = Part(compute, owners)
        if self.placement.is_brought(name):
            self._take_away(name, part)
            for matrix in _matrices(made):  # the own kernels know where weights lie for good
                matrix.stored, matrix.plan = None, Plan()
        if name.startswith("layers."):
            self._layers.append(part)
        else:
            self._parts.add_module(name, part)

    def _take_away(self, name: str, part: Part) -> None:
        from accelerate.utils.modeling import set_module_tensor_to_device
        from accelerate.utils.offload import offload_weight

        part.is_brought, keys = True, [key for key, _ in part.named_parameters()]
        if self.placement.places[name] == MEMORY:
            for key in keys:
                set_module_tensor_to_device(part, key, "cpu")
        else:
            try:
                for key, parameter in part.named_parameters():
                    offload_weight(parameter, f"{name}.{key}", self._folder, index=self._index)
            except OSError as error:
                raise DeviceOutOfMemory(
                    "The disk has no room for the layers of this model: free some space, or choose "
                    "a smaller model."
                ) from error
            for key in keys:
                set_module_tensor_to_device(part, key, "meta")
        part.take_back()

    def attach(self, model: Llama) -> None:
        """Let `model` compute through the parts that were settled."""
        from accelerate import dispatch_model
        from accelerate.utils.offload import save_offload_index

        from engine.llama import Stages

        if self._folder is not None:
            save_offload_index(self._index, self._folder)
        self._parts.add_module("layers", self._layers)
        # It tells of every placement on stderr, and we do so on the page.
        logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)
        dispatch_model(
            self._parts,
            {part: _as_given(place) for part, place in self.placement.places.items()},
            main_device=_as_given(self.placement.main),
            offload_dir=self._folder,
            force_hooks=True,
        )
        for part in self._parts.modules():
            if isinstance(part, Part) and not part.is_brought:
                part.hand_over()
        devices = self.placement.layer_devices
        model.cache_shape = replace(model.cache_shape, layer_devices=devices)
        table, norm = self._parts.get_submodule("embedding"), self._parts.get_submodule("norm")
        tied = model.head is model.embedding
        head = table if tied else self._parts.get_submodule("head")
        model.stages = Stages(table, tuple(self._layers), lambda x: head(norm(x)))
        model.dispatch = self

    def close(self) -> None:
        """Remove what lies on the disk."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _as_given(place: str) -> Any:
    """A place as `dispatch_model` wants it: these two by name, the others as devices."""
    return place if place in (MEMORY, DISK) else torch.device(place)


def _anatomy(made: Block | Matrix | Norm) -> tuple[Callable[..., Tensor], Iterator[object]]:
    """How a part computes, and the objects that hold its tensors."""
    from engine.llama import Block, Norm

    if isinstance(made, Block):
        return made, _owners(made)
    if isinstance(made, Norm):
        return made, iter((made,))
    matrix = made

    def table(x: Tensor) -> Tensor:
        """Ids become rows of it; activations become logits. One may serve as both."""
        return matrix(x) if x.is_floating_point() else matrix.rows(x)

    return table, iter((matrix,))


def _owners(block: Block) -> Iterator[object]:
    yield block.norm1
    yield block.norm2
    for linear in block.linears():
        yield linear
        yield linear.matrix


def _matrices(made: Block | Matrix | Norm) -> Iterator[Matrix]:
    from engine.llama import Block, Norm

    if isinstance(made, Block):
        yield from (linear.matrix for linear in made.linears())
    elif not isinstance(made, Norm):
        yield made


def _remove_left(folder: Path) -> None:
    """Make `folder`, and remove what processes that are gone have left there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in folder.glob(f"{_PREFIX}*-*"):
        number = left.name.removeprefix(_PREFIX).partition("-")[0]
        if not number.isdigit() or not psutil.pid_exists(int(number)):
            shutil.rmtree(left, ignore_errors=True)

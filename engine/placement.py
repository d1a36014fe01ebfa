"""Which parts of a model lie where, if it is larger than its device, and what that costs a token.

accelerate fills the places in order (`infer_auto_device_map`): the GPUs, then main memory, then the
disk. What lies in memory or on the disk is computed by the first GPU, or by the CPU where there is
none, and its weights are brought there for every pass (`engine/dispatch.py`). That is slow; how
slow is measured and said here, before anything is loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from engine.bandwidth import DISK, MEMORY, bandwidth, existing_folder
from engine.config import LlamaConfig
from engine.device import free_bytes
from engine.fit import CHUNK, SPARE, activation_bytes, part_bytes
from engine.kv_cache import Kept, cache_shape
from engine.quantize import Precision

# What may hold layers that the device has no room for: other GPUs and main memory (auto), the disk
# as well, or nothing.
Offload = Literal["auto", "disk", "never"]

USUAL_CONTEXT = 4096  # tokens that must have room beside the weights, if nobody says otherwise


@dataclass(frozen=True, slots=True)
class Placement:
    """Where each part of a model lies; parts as `engine.fit.part_bytes` names them.

    Places are devices as torch names them, and `disk`.
    """

    main: str  # the device that computes what lies in main memory or on the disk
    places: Mapping[str, str]
    sizes: Mapping[str, int]  # bytes of the weights

    def device(self, part: str) -> torch.device:
        """What computes `part`."""
        place = self.places[part]
        return torch.device(self.main if place in (MEMORY, DISK) else place)

    def is_brought(self, part: str) -> bool:
        """Whether the weights of `part` lie elsewhere than where they compute."""
        return self.places[part] in {MEMORY, DISK} - {self.main}

    @property
    def is_whole(self) -> bool:
        """Whether everything lies on the one device."""
        return set(self.places.values()) == {self.main}

    @property
    def layer_devices(self) -> tuple[torch.device, ...]:
        """What computes each layer; its keys and values lie there too."""
        return tuple(map(self.device, filter(_is_layer, self.places)))

    def brought_bytes(self, place: str) -> int:
        """Bytes that every pass brings from `place`."""
        return sum(
            size
            for part, size in self.sizes.items()
            if self.places[part] == place and self.is_brought(part)
        )

    def num_layers(self, place: str) -> int:
        """How many layers lie there."""
        return sum(_is_layer(part) and here == place for part, here in self.places.items())

    def told(self, seconds: float) -> str:
        """Which layers lie where, and how slow that is, as sentences. `seconds` of each pass."""
        num = sum(map(_is_layer, self.places))
        each = (
            f"{self.num_layers(place)} {_named(place)}"
            for place in dict.fromkeys(self.places.values())
        )
        said = f"Of {num} layers lie {', '.join(each)}."
        brought = self.brought_bytes(MEMORY) + self.brought_bytes(DISK)
        if not brought:
            return said
        return (
            f"{said} {brought / 1e9:.3g} GB are brought for every token, which takes at least "
            f"{seconds:.2g} s."
        )


@dataclass(frozen=True, slots=True)
class Offloading:
    """What may hold what the device has no room for."""

    mode: Offload = "auto"
    folder: Path | None = None  # where the disk would be used
    most_bytes: int = 0  # bounds each device; 0: what is free

    def plan(
        self,
        config: LlamaConfig,
        precision: Precision,
        device: torch.device,
        *,
        context: int = USUAL_CONTEXT,
        users: int = 1,
        kept: Kept = "auto",
    ) -> Placement | None:
        """Place a model in what is free now; see `plan`."""
        room = places_here(device, self.mode, folder=self.folder, most_bytes=self.most_bytes)
        context = min(context, config.context_length)
        return plan(config, precision, room, context=context, users=users, kept=kept)

    def seconds(self, placement: Placement) -> float:
        """The least that a pass takes on this machine; see `seconds_per_pass`. Measures once."""
        used = [place for place in (MEMORY, DISK) if placement.brought_bytes(place)]
        rates = {place: bandwidth(place, placement.main, self.folder) for place in used}
        return seconds_per_pass(placement, rates)


NOWHERE = Offloading("never")


def _named(place: str) -> str:
    return {MEMORY: "in main memory", DISK: "on the disk"}.get(place, f"on {place}")


def seconds_per_pass(placement: Placement, bandwidth: Mapping[str, float]) -> float:
    """The least that a pass takes, in seconds.

    It is the sum over main memory and the disk of

        bytes of the parts that lie there / bytes a second that come from there

    because a part is brought when it is used, and none before. A pass writes one token of every
    conversation, or reads up to 512 tokens of a prompt; what it computes comes on top.
    """
    moved = {place: placement.brought_bytes(place) for place in (MEMORY, DISK)}
    return sum(size / bandwidth[place] for place, size in moved.items() if size)


def places_here(
    device: torch.device, offload: Offload, *, folder: Path | None = None, most_bytes: int = 0
) -> dict[str, int]:
    """The places for a model that `device` computes, and the bytes that it may take of each.

    `most_bytes` bounds each device (0: by what is free). `folder` is where the disk would be used.
    A GPU that was chosen by its number stays alone. Apple's GPU shares the main memory, so that is
    no further place.
    """
    devices = [device]
    if str(device) == "cuda":
        devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    if offload == "never":
        devices = devices[:1]
    places = {}
    for each in devices:
        free = int(free_bytes(each) * SPARE)
        places[str(each)] = min(free, most_bytes) if most_bytes else free
    if offload != "never" and device.type == "cuda":
        places[MEMORY] = int(free_bytes(torch.device("cpu")) * SPARE)
    if offload == "disk" and device.type != "mps" and folder is not None:
        places[DISK] = int(shutil.disk_usage(existing_folder(folder)).free * SPARE)
    return places


def plan(
    config: LlamaConfig,
    precision: Precision,
    room: Mapping[str, int],
    *,
    context: int,
    users: int = 1,
    kept: Kept = "auto",
) -> Placement | None:
    """Place a model, with the keys and values of `users` conversations of `context` tokens.

    `room` is what may be taken of each place in bytes, the main device first (`places_here`).
    None if there is not room enough.
    """
    main = next(iter(room))
    shape = cache_shape(config, precision, torch.device(main), kept)
    sizes = part_bytes(config, precision, shape.device)
    slots = users * shape.bucket(context) * shape.token_bytes
    passes = activation_bytes(config, precision, min(context, CHUNK), context, shape)
    computing = [place for place in room if place not in (MEMORY, DISK)] or [main]
    left = {place: size - passes * (place in computing) for place, size in room.items()}
    if sum(sizes.values()) + slots <= left[main]:
        return Placement(main, dict.fromkeys(sizes, main), sizes)
    if len(room) == 1:
        return None
    placement, reserved = _filled(sizes, left, main, slots, alone=len(computing) == 1)
    return placement if _has_room(placement, left[main] - reserved, left) else None


def _filled(
    sizes: Mapping[str, int], left: Mapping[str, int], main: str, slots: int, *, alone: bool
) -> tuple[Placement, int]:
    """The placement, and what the main device must keep free for keys and values.

    One device holds those of all layers (`slots`). Of several each holds those of its own layers,
    which are weighed with them, and the first also those of what is brought to it: so many layers
    are only known afterwards, and the placing is done again until what was kept free is enough.
    """
    num_layers = sum(map(_is_layer, sizes))
    a_layer = slots // num_layers
    weighed = {
        part: size + (0 if alone or not _is_layer(part) else a_layer)
        for part, size in sizes.items()
    }
    reserved = slots if alone else 0
    while True:
        places = _inferred(weighed, {**left, main: left[main] - reserved})
        placement = Placement(main, places, sizes)
        brought = sum(_is_layer(part) and placement.is_brought(part) for part in sizes)
        if alone or brought * a_layer <= reserved:
            return placement, reserved
        reserved = brought * a_layer


def _inferred(sizes: Mapping[str, int], room: Mapping[str, int]) -> dict[str, str]:
    """What accelerate makes of parts and places. It takes the disk as endless."""
    from accelerate.utils.modeling import infer_auto_device_map

    keys = {place: _key(place) for place in (*room, DISK)}
    found = infer_auto_device_map(
        _outline(sizes),
        max_memory={keys[place]: size for place, size in room.items() if place != DISK},
        clean_result=False,
    )
    names = {key: place for place, key in keys.items()}
    return {part: names[found.get(part, found.get(part.split(".")[0]))] for part in sizes}


def _key(place: str) -> int | str:
    """A place as accelerate names it: GPUs by their number."""
    kind, _, number = place.partition(":")
    return int(number or 0) if kind == "cuda" else place


def _outline(sizes: Mapping[str, int]) -> nn.Module:
    """What accelerate weighs: a module for each part, that is so large and holds nothing."""
    outline, layers = nn.Module(), nn.ModuleList()
    for part, size in sizes.items():
        module = nn.Module()
        nothing = torch.empty(size, dtype=torch.uint8, device="meta")
        module.register_parameter("weights", nn.Parameter(nothing, requires_grad=False))
        if _is_layer(part):
            outline.add_module("layers", layers.append(module))
        else:
            outline.add_module(part, module)
    return outline


def _is_layer(part: str) -> bool:
    return part.startswith("layers.")


def _has_room(placement: Placement, of_main: int, left: Mapping[str, int]) -> bool:
    """Whether the disk is there and large enough, and the device can take the largest part in."""
    sizes, places = placement.sizes, placement.places
    resident = sum(size for part, size in sizes.items() if places[part] == placement.main)
    largest = max((size for part, size in sizes.items() if placement.is_brought(part)), default=0)
    on_disk = placement.brought_bytes(DISK)
    return resident + largest <= of_main and on_disk <= left.get(DISK, 0)

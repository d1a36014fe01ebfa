"""What fits this machine: the memory that a model will take, and which Llamas to suggest.

Works on shapes and configs; nothing is loaded. Imports torch when it is asked for the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from app.settings import Settings
from engine.catalog import KNOWN, KnownModel
from engine.config import LlamaConfig
from engine.errors import DeviceAbsent
from engine.home import OFFLOADED
from engine.shapes import shape

if TYPE_CHECKING:
    from engine.placement import Offload, Offloading
    from engine.quantize import Precision

# Context that a model must have room for beside its weights to count as fitting.
CONTEXT = 4096
# A processor reads every weight for every token, and reads some 10 to 40 GB a second: larger models
# than these write slower than people read, in 8 bit, on few and on many cores.
_SMALL_CPU_PARAMETERS, _LARGE_CPU_PARAMETERS = 2 * 10**9, 4 * 10**9
_MANY_THREADS = 8
_LEAST_CONTEXT = 8192  # of what is suggested: older Llamas are kept for those who look for them


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes when it is loaded as this machine would. Bytes."""

    precision: str
    num_bytes: int  # at most, with keys and values of `CONTEXT` tokens
    fits: bool


@dataclass(frozen=True, slots=True)
class Spread:
    """A model in several places. `seconds`: what bringing weights takes at least for a token."""

    precision: str
    num_here: int  # layers on the device
    num_layers: int
    num_devices: int
    brought_bytes: int  # for every token
    uses_disk: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Room:
    """The memory for a model: `device` as torch names its kind (cpu, cuda, mps)."""

    device: str
    free_bytes: int
    num_threads: int = 1
    total_bytes: int = 0  # 0: not known
    offloading: Offloading | None = None  # what may hold layers that the device has no room for

    @classmethod
    def of_machine(cls, device: str, offloading: Offloading) -> Room:
        """What is free now on the device of the settings. Raises `DeviceAbsent`."""
        from engine.device import choose_device, choose_threads, free_bytes, total_bytes

        chosen = choose_device(device)
        free = free_bytes(chosen)
        if offloading.most_bytes:
            free = min(free, offloading.most_bytes)
        return cls(chosen.type, free, choose_threads(), total_bytes(chosen), offloading)

    def weights(self, config: LlamaConfig, precision: str) -> int:
        """Bytes of the weights alone."""
        import torch

        from engine.fit import weight_bytes

        chosen = self._precision(config, precision)
        return weight_bytes(config, chosen, torch.device(self.device))

    def need(self, config: LlamaConfig, precision: str = "auto") -> Need:
        """What a model of this shape takes, in the precision that the engine would choose."""
        import torch

        from engine.fit import fit, predict

        device, chosen = torch.device(self.device), self._precision(config, precision)
        found = fit(config, chosen, self.free_bytes, device)
        context = min(CONTEXT, config.context_length)
        num_bytes = predict(config, chosen, context=context, device=device).peak_bytes
        return Need(chosen, num_bytes, found.max_context >= context)

    def spread(self, config: LlamaConfig, precision: str = "auto") -> Spread | None:
        """How a model would lie that the device has no room for; None if there is no room at all.

        The first time it may measure how fast weights come, which takes a moment.
        """
        import torch

        from engine.bandwidth import DISK, MEMORY

        chosen = self._precision(config, precision)
        if self.offloading is None:
            return None
        found = self.offloading.plan(config, chosen, torch.device(self.device))
        if found is None or found.is_whole:
            return None
        on_disk = found.brought_bytes(DISK)
        return Spread(
            chosen,
            found.num_layers(found.main),
            config.num_hidden_layers,
            len(set(found.layer_devices)),
            found.brought_bytes(MEMORY) + on_disk,
            on_disk > 0,
            self.offloading.seconds(found),
        )

    def _precision(self, config: LlamaConfig, wanted: str) -> Precision:
        """`wanted`, or what the engine would choose."""
        import torch

        from engine.loading import choose_precision

        return choose_precision(config, torch.device(self.device), wanted)

    def suggestions(self) -> list[KnownModel]:
        """The largest suited chat model that asks for no account, and the largest that does.

        One of them, or both, may be absent.
        """
        suited = [model for model in KNOWN if self._suits(model)]
        best = []
        for gated in (False, True):
            candidates = [model for model in suited if model.gated is gated]
            if candidates:
                best.append(max(candidates, key=lambda model: model.num_parameters))
        return best

    def _suits(self, model: KnownModel) -> bool:
        if model.purpose != "chat" or model.context_length < _LEAST_CONTEXT:
            return False
        many = self.num_threads >= _MANY_THREADS
        limit = _LARGE_CPU_PARAMETERS if many else _SMALL_CPU_PARAMETERS
        if self.device == "cpu" and model.num_parameters > limit:
            return False
        return self.need(shape(model.shape)).fits


def room_here(settings: Settings) -> Room | None:
    """What is free now on the device of the settings; None if this machine has no such device."""
    try:
        return Room.of_machine(settings.device, offloading(settings))
    except DeviceAbsent:
        return None


def offloading(settings: Settings) -> Offloading:
    """What may hold the layers of a model that is larger than the device. Imports torch."""
    from engine.placement import Offloading

    mode: Offload = cast("Offload", settings.offload)  # one of these, by its pattern
    return Offloading(mode, settings.data / OFFLOADED, settings.device_megabytes << 20)

"""What fits this machine: the memory that a model will take, and which Llamas to suggest.

Works on shapes and configs; nothing is loaded. Imports torch when it is asked for the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.catalog import KNOWN, KnownModel
from engine.config import LlamaConfig
from engine.errors import DeviceAbsent
from engine.shapes import shape

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
class Room:
    """The memory for a model: `device` as torch names its kind (cpu, cuda, mps)."""

    device: str
    free_bytes: int
    num_threads: int = 1
    total_bytes: int = 0  # 0: not known

    @classmethod
    def of_machine(cls, device: str) -> Room:
        """What is free now on the device of the settings. Raises `DeviceAbsent`."""
        from engine.device import choose_device, choose_threads, free_bytes, total_bytes

        chosen = choose_device(device)
        return cls(chosen.type, free_bytes(chosen), choose_threads(), total_bytes(chosen))

    @classmethod
    def if_present(cls, device: str) -> Room | None:
        """As `of_machine`; None where the device of the settings is absent."""
        try:
            return cls.of_machine(device)
        except DeviceAbsent:
            return None

    def weights(self, config: LlamaConfig, precision: str) -> int:
        """Bytes of the weights alone, in one of `engine.fit.PRECISIONS`."""
        import torch

        from engine.fit import PRECISIONS, weight_bytes

        known = next(each for each in PRECISIONS if each == precision)
        return weight_bytes(config, known, torch.device(self.device))

    def need(self, config: LlamaConfig, precision: str = "auto") -> Need:
        """What a model of this shape takes, in the precision that the engine would choose."""
        import torch

        from engine.fit import PRECISIONS, fit, predict
        from engine.loading import choose_precision

        device = torch.device(self.device)
        chosen = next((p for p in PRECISIONS if p == precision), choose_precision(config, device))
        found = fit(config, chosen, self.free_bytes, device)
        context = min(CONTEXT, config.context_length)
        num_bytes = predict(config, chosen, context=context, device=device).peak_bytes
        return Need(chosen, num_bytes, found.max_context >= context)

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

"""GPUs that are not there: tensors that say they lie on one, compute on the CPU, and never mix.

Inside of `SimulatedGpus` every call of torch passes by here. What is made on, or moved to, a CUDA
device becomes an `OnGpu`: an ordinary tensor with real numbers that knows its device. A call whose
tensors lie on several devices is an error, as it is with real ones, but for copies between them.
Kernels, memory and speed of real GPUs are not simulated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

CPU = torch.device("cpu")
_MOVES = (Tensor.to, Tensor.cpu)


class OnGpu(Tensor):
    """A tensor with real numbers that says it is on `gpu`."""

    gpu: torch.device

    def __new__(cls, value: Tensor, requires_grad: bool = False) -> Any:
        """As `nn.Parameter`: accelerate makes a new parameter by the class of the old one."""
        return nn.Parameter(value, requires_grad=requires_grad)

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


def device_of(tensor: Tensor) -> torch.device:
    return tensor.gpu if isinstance(tensor, OnGpu) else torch.Tensor.device.__get__(tensor)  # type: ignore[attr-defined]


class SimulatedGpus(TorchFunctionMode):
    """A context with CUDA devices. `moved` counts bytes that went from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: Counter[tuple[str, str]] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return device_of(args[0])
        if func in _MOVES:
            return self._move(func, args, given)
        tensors = [each for each in tree_flatten((args, given))[0] if isinstance(each, Tensor)]
        places = {device_of(each) for each in tensors if each.dim() or isinstance(each, OnGpu)}
        if func is Tensor.copy_:
            device = device_of(args[0])
        elif "device" in given and given["device"] is not None:
            device = torch.device(given["device"])
            given["device"] = CPU if device.type == "cuda" else device
        elif len(places) > 1:
            raise RuntimeError(f"{func} got tensors on {sorted(map(str, places))}")
        else:
            device = next(iter(places), CPU)
        return _placed(func(*args, **given), device)

    def _move(self, func: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        tensor, *rest = args
        before = after = device_of(tensor)
        if func is Tensor.cpu:
            after = CPU
        for at, each in enumerate(rest):
            if isinstance(each, torch.device | str):
                after = torch.device(each)
                rest[at] = CPU if after.type == "cuda" else after
        if given.get("device") is not None:
            after = torch.device(given["device"])
            given["device"] = CPU if after.type == "cuda" else after
        result = func(tensor, *rest, **given)
        if after != before:
            self.moved[str(before), str(after)] += tensor.nbytes
            result = result.clone()
        return _placed(result, after)


def _placed(result: Any, device: torch.device) -> Any:
    def place(tensor: Tensor) -> Tensor:
        if device.type != "cuda":
            return tensor.as_subclass(Tensor) if isinstance(tensor, OnGpu) else tensor
        placed = tensor if isinstance(tensor, OnGpu) else tensor.as_subclass(OnGpu)
        placed.gpu = device
        return placed

    return tree_map_only(Tensor, place, result)

"""Which way a matrix multiplies by few and by many rows: measured at loading, within a second.

Processors differ too much to know beforehand: bfloat16 products are the fastest there are on one
with the instructions for them and thirty times slower than float32 without. The largest matrix of
the first layer speaks for all of its kind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.matrices import Dense
from engine.plans import Matrix, Plan

if TYPE_CHECKING:
    from engine.llama import Llama

_MANY_ROWS = 64  # as a chunk of a prompt: beyond it the time of each way grows with the rows
_SECONDS = 0.8  # for everything; what is not measured by then is left as it is
_NEVER = 1 << 62
_PROBE_SIZE = 256  # of the product that tells whether bfloat16 is worth more than a try


def tune(model: Llama, seconds: float = _SECONDS) -> str:
    """Give the matrices of `model` the plan that is fastest now → why, in a sentence.

    Only on a CPU: elsewhere torch has one way.
    """
    if model.device.type != "cpu":
        return ""
    sample = model.blocks[0].feed_forward.gate_up.matrix
    until = time.perf_counter() + seconds
    width = model.config.hidden_size
    few = _fastest(sample, 1, width, until)
    many = _fastest(sample, _MANY_ROWS, width, until)
    if not few or not many:
        return "The ways to multiply were not measured: the machine was too busy."
    plan = _plan_from(min(few, key=few.__getitem__), min(many, key=many.__getitem__))
    for matrix in model.matrices():
        if type(matrix) is type(sample):
            matrix.plan = _limited(plan, matrix)
    return f"1 row: {_told(few)}; {_MANY_ROWS} rows: {_told(many)}."


def _ways(matrix: Matrix) -> Iterator[tuple[str, Plan]]:
    """Every way there is for `matrix`, as a plan that sends everything this way."""
    if matrix.stored is not None:
        yield "own kernel", Plan(own_rows=_NEVER, packed_rows=0)
    if matrix.packable:
        yield "torch's packed kernel", Plan(packed_rows=_NEVER)
    yield "float32", Plan(packed_rows=0)
    narrow = not isinstance(matrix, Dense) or matrix.weight.dtype == torch.bfloat16
    if narrow and bfloat16_is_fast():
        yield "bfloat16", Plan(packed_rows=0, dense=torch.bfloat16)


def _fastest(matrix: Matrix, num: int, width: int, until: float) -> dict[str, float]:
    """The best of three times of each way, in seconds; no new measurement begins after `until`."""
    x = torch.ones(num, width, dtype=matrix.dtype)
    kept, found = matrix.plan, {}
    for name, plan in _ways(matrix):
        matrix.plan = plan
        times = [_seconds(matrix, x) for _ in range(3) if time.perf_counter() < until]
        if times:
            found[name] = min(times)
    matrix.plan = kept
    return found


def _seconds(product: Callable[[Tensor], Tensor], x: Tensor) -> float:
    began = time.perf_counter()
    product(x)
    return time.perf_counter() - began


def bfloat16_is_fast() -> bool:
    """Whether a small product in bfloat16 takes no longer than in float32, by more than noise."""
    wide = torch.ones(_PROBE_SIZE, _PROBE_SIZE)
    narrow = wide.bfloat16()
    times = [min(_seconds(x.matmul, x) for _ in range(3)) for x in (wide, narrow)]
    return times[1] < 1.5 * times[0]


def _plan_from(few: str, many: str) -> Plan:
    """The way `few` for few rows, `many` for many; between them few means less than a tile."""
    dense = torch.bfloat16 if many == "bfloat16" else torch.float32
    limit = _NEVER if many == few else 16
    match few:
        case "own kernel":
            plan = Plan(own_rows=limit, packed_rows=0, dense=dense)
        case "torch's packed kernel":
            plan = Plan(packed_rows=limit, dense=dense)
        case _:
            plan = Plan(packed_rows=0, dense=dense)
    return replace(plan, packed_rows=_NEVER) if many == "torch's packed kernel" else plan


def _limited(plan: Plan, matrix: Matrix) -> Plan:
    """`plan` without the own kernel, if that cannot walk `matrix`."""
    return plan if matrix.stored is not None else replace(plan, own_rows=0)


def _told(found: dict[str, float]) -> str:
    ranked = sorted(found.items(), key=lambda way: way[1])
    return ", ".join(f"{name} {1000 * seconds:.2g} ms" for name, seconds in ranked)

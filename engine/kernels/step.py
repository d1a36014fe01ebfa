"""The C step (`step.c`) for a loaded model: one call reads a few tokens of a few sequences."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.kernels.products import Kind, MatrixPointers, Stored
from engine.kv_cache import Slot

if TYPE_CHECKING:
    from engine.llama import Llama

# Tokens of one call. The weights are read once for all of them; beyond this the attention, which
# goes token by token, would take longer than torch's.
MAX_TOKENS = 32
_KEPT = {torch.float32: Kind.FLOAT32, torch.bfloat16: Kind.BFLOAT16, torch.int8: Kind.INT8}
_LANES = 16  # of the widest vectors: heads are walked in whole ones


class _Layer(ctypes.Structure):
    _fields_ = (
        ("norm1", ctypes.c_void_p),
        ("norm2", ctypes.c_void_p),
        ("qkv", MatrixPointers),
        ("out", MatrixPointers),
        ("gate_up", MatrixPointers),
        ("down", MatrixPointers),
    )


class _Shape(ctypes.Structure):
    _fields_ = (
        ("heads", ctypes.c_int64),
        ("kv_heads", ctypes.c_int64),
        ("dim", ctypes.c_int64),
        ("kept", ctypes.c_int64),
        ("eps", ctypes.c_float),
    )


class _Span(ctypes.Structure):
    _fields_ = (
        ("cache", ctypes.c_void_p),
        ("turns", ctypes.c_void_p),
        ("layer_bytes", ctypes.c_int64),
        ("capacity", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("num", ctypes.c_int64),
    )


def can_step(model: Llama) -> bool:
    """Whether `step.c` can compute this model: on a CPU, no biases, sizes it can walk."""
    linears = [linear for block in model.blocks for linear in block.linears()]
    stored = [model.head.stored, *(linear.matrix.stored for linear in linears)]
    return (
        model.device.type == "cpu"
        and model.cache_shape.dtype in _KEPT
        and model.config.head_dim % _LANES == 0
        and model.norm.weight.dtype == torch.float32
        and all(linear.bias is None for linear in linears)
        and all(matrix is not None and matrix.fits for matrix in stored)
    )


class Step:
    """Pointers into a model's weights, and room to work in. Only for models that `can_step`."""

    def __init__(self, model: Llama, library: ctypes.CDLL) -> None:
        self._model = model
        self._step, self._step_bytes = library.corral_step, library.corral_step_bytes
        self._step.restype, self._step_bytes.restype = None, ctypes.c_int64
        config = model.config
        self._shape = _Shape(
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            _KEPT[model.cache_shape.dtype],
            config.rms_norm_eps,
        )
        self._layers = (_Layer * len(model.blocks))(
            *[
                _Layer(
                    block.norm1.weight.data_ptr(),
                    block.norm2.weight.data_ptr(),
                    _pointers(block.attention.qkv.matrix.stored),
                    _pointers(block.attention.out.matrix.stored),
                    _pointers(block.feed_forward.gate_up.matrix.stored),
                    _pointers(block.feed_forward.down.matrix.stored),
                )
                for block in model.blocks
            ]
        )
        self._head = _pointers(model.head.stored)
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def __call__(
        self, ids: Sequence[int], spans: Sequence[tuple[Slot, int]], *, every: bool = False
    ) -> Tensor:
        """As `Llama.forward`, for at most `MAX_TOKENS` ids; does not lengthen the slots."""
        model, num = self._model, ctypes.c_int64(len(ids))
        x = model.embedding.rows(torch.tensor(ids))  # (N, C) float32
        rows, first = (_Span * len(spans))(), 0
        for at, (slot, length) in enumerate(spans):
            rows[at] = self._span(slot, first, length)
            first += length
        ends = range(len(ids)) if every else [row.first + row.num - 1 for row in rows]
        last = (ctypes.c_int64 * len(ends))(*ends)
        longest = ctypes.c_int64(max(slot.length + length for slot, length in spans))
        num_spans = ctypes.c_int64(len(spans))
        size = self._step_bytes(ctypes.byref(self._shape), self._layers, num, num_spans, longest)
        if size > self._scratch.numel():
            self._scratch = torch.empty(size + size // 2, dtype=torch.uint8)
        logits = torch.empty(len(ends), self._head.rows)
        self._step(
            ctypes.byref(self._shape),
            self._layers,
            ctypes.c_int64(len(self._layers)),
            ctypes.c_void_p(model.norm.weight.data_ptr()),
            ctypes.byref(self._head),
            num,
            ctypes.c_void_p(x.data_ptr()),
            rows,
            num_spans,
            longest,
            last,
            ctypes.c_int64(len(ends)),
            ctypes.c_void_p(self._scratch.data_ptr()),
            ctypes.c_void_p(logits.data_ptr()),
            ctypes.c_int(torch.get_num_threads()),
        )
        return logits

    def _span(self, slot: Slot, first: int, num: int) -> _Span:
        turns = self._model.rotary.table(slot.length + num, slot.stretch)  # (T, D / 2) complex
        layer = slot.layers[0]
        return _Span(
            layer.data_ptr(),
            turns.data_ptr() + slot.length * turns.shape[1] * turns.element_size(),
            (slot.layers[1].data_ptr() - layer.data_ptr()) if len(slot.layers) > 1 else 0,
            slot.capacity,
            slot.length,
            first,
            num,
        )


def _pointers(stored: Stored | None) -> MatrixPointers:
    assert stored is not None
    return stored.pointers

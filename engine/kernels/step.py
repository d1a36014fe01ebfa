"""The C step (`step.c`) for a loaded model: one call decodes one token for each of a few rows."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.kv_cache import Slot
from engine.quantize import Int8, Matrix

if TYPE_CHECKING:
    from engine.llama import Llama

MAX_ROWS = 8  # the weights are read once for all rows; beyond this a dense product is as fast
_GROUP = 64  # GROUP in step.c
_ROWS_AT_A_TIME = 4


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        ("norm1", ctypes.c_void_p),
        ("norm2", ctypes.c_void_p),
        ("qkv", _Matrix),
        ("out", _Matrix),
        ("gate_up", _Matrix),
        ("down", _Matrix),
    )


class _Shape(ctypes.Structure):
    _fields_ = (
        ("heads", ctypes.c_int64),
        ("kv_heads", ctypes.c_int64),
        ("dim", ctypes.c_int64),
        ("wide_cache", ctypes.c_int64),
        ("eps", ctypes.c_float),
    )


class _Row(ctypes.Structure):
    _fields_ = (
        ("cache", ctypes.c_void_p),
        ("turns", ctypes.c_void_p),
        ("layer_bytes", ctypes.c_int64),
        ("capacity", ctypes.c_int64),
        ("position", ctypes.c_int64),
    )


def can_step(model: Llama) -> bool:
    """Whether `step.c` can compute this model: int8 on a CPU, no biases, widths it can walk."""
    matrices: list[Matrix] = [model.head]
    for block in model.blocks:
        linears = (
            block.attention.qkv,
            block.attention.out,
            block.feed_forward.gate_up,
            block.feed_forward.down,
        )
        if any(linear.bias is not None for linear in linears):
            return False
        matrices += [linear.matrix for linear in linears]
    return model.device.type == "cpu" and all(
        isinstance(matrix, Int8)
        and matrix.weight.shape[0] % _ROWS_AT_A_TIME == 0
        and matrix.weight.shape[1] % _GROUP == 0
        for matrix in matrices
    )


class Step:
    """Pointers into a model's weights, and room to work in. Only for models that `can_step`."""

    def __init__(self, model: Llama, library: ctypes.CDLL) -> None:
        self._model = model
        self._step, self._scratch_size = library.corral_step, library.corral_scratch
        self._step.restype, self._scratch_size.restype = None, ctypes.c_int64
        config = model.config
        self._shape = _Shape(
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            model.cache_shape.dtype == torch.float32,
            config.rms_norm_eps,
        )
        self._layers = (_Layer * len(model.blocks))(
            *[
                _Layer(
                    block.norm1.weight.data_ptr(),
                    block.norm2.weight.data_ptr(),
                    _matrix(block.attention.qkv.matrix),
                    _matrix(block.attention.out.matrix),
                    _matrix(block.feed_forward.gate_up.matrix),
                    _matrix(block.feed_forward.down.matrix),
                )
                for block in model.blocks
            ]
        )
        self._head = _matrix(model.head)
        self._scratch = torch.empty(0)

    def __call__(self, ids: Sequence[int], slots: Sequence[Slot]) -> Tensor:
        """Decode `ids`, one for each of `slots` → logits (rows, V). Slots must have room."""
        model, num = self._model, len(ids)
        x = model.embedding.rows(torch.tensor(ids))  # (rows, C) float32
        logits = torch.empty(num, self._head.rows)
        rows = (_Row * num)(*[self._row(slot) for slot in slots])
        longest = max(slot.length for slot in slots) + 1
        size = self._scratch_size(
            ctypes.byref(self._shape), self._layers, ctypes.c_int64(num), ctypes.c_int64(longest)
        )
        if size > self._scratch.numel():
            self._scratch = torch.empty(size + size // 2)
        self._step(
            ctypes.byref(self._shape),
            self._layers,
            ctypes.c_int64(len(self._layers)),
            ctypes.c_void_p(model.norm.weight.data_ptr()),
            ctypes.byref(self._head),
            ctypes.c_int64(num),
            ctypes.c_void_p(x.data_ptr()),
            rows,
            ctypes.c_int64(longest),
            ctypes.c_void_p(self._scratch.data_ptr()),
            ctypes.c_void_p(logits.data_ptr()),
            ctypes.c_int(torch.get_num_threads()),
        )
        return logits

    def _row(self, slot: Slot) -> _Row:
        turns = self._model.rotary.table(slot.length + 1, slot.stretch)  # (T, D / 2) complex
        layer = slot.layers[0]
        return _Row(
            layer.data_ptr(),
            turns.data_ptr() + slot.length * turns.shape[1] * turns.element_size(),
            layer.numel() * layer.element_size(),
            slot.capacity,
            slot.length,
        )


def _matrix(matrix: Matrix) -> _Matrix:
    assert isinstance(matrix, Int8)
    rows, width = matrix.weight.shape
    return _Matrix(matrix.weight.data_ptr(), matrix.wide_scale.data_ptr(), rows, width)

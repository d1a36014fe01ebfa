"""Each precision of a matrix against the same product in float64."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.four_bits import Int4, Int4Panels, Int4Tiles
from engine.matrices import make_matrix
from engine.plans import Plan
from engine.quantize import (
    Grouped,
    Precision,
    Scaled,
    activation_dtype,
    quantize_int4,
    quantize_int8,
)

CPU = torch.device("cpu")

# Greatest error of a product with random normal weights, relative to its standard deviation.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.03, "int8": 0.06, "int4": 0.5, "int4-128": 0.6}


def weights(rows: int = 128, width: int = 128) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rows", [1, 3, 8, 9, 70])
@pytest.mark.parametrize("precision", TOLERANCE)
def test_products_stay_within_the_tolerance(precision: Precision, rows: int) -> None:
    weight = weights()
    x = torch.randn(rows, 128, generator=torch.Generator().manual_seed(rows))
    x = x.to(activation_dtype(precision, CPU))
    exact = x.double() @ weight.double().T
    product = make_matrix(weight, precision, CPU)(x)
    assert product.dtype == x.dtype
    assert (product.double() - exact).abs().max() / exact.std() < TOLERANCE[precision]


def without_own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matrices", "plans"):
        monkeypatch.setattr(f"engine.{module}.own_library", lambda: None)


WAYS = {"own": Plan(own_rows=99), "packed": Plan(packed_rows=99), "dense": Plan(packed_rows=0)}


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4", "int4-128"])
def test_all_ways_multiply_by_the_same_weights(
    precision: Precision, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels and dense products must not differ by more than rounding, int8 activations apart."""
    if not own:
        without_own_kernels(monkeypatch)
    matrix = make_matrix(weights(), precision, CPU)
    x = torch.randn(13, 128, generator=torch.Generator().manual_seed(2))
    products = {}
    for name, plan in WAYS.items():
        matrix.plan = plan
        products[name] = matrix(x).double()
    exact = products["dense"]
    if own:
        own_error = (products["own"] - exact).abs().max() / exact.std()
        assert own_error < (1e-5 if precision in ("fp32", "bf16") else 0.03)
    assert (products["packed"] - exact).abs().max() / exact.std() < 0.02


@pytest.mark.parametrize("dense", [torch.float32, torch.bfloat16])
def test_weights_are_expanded_to_what_is_planned(dense: torch.dtype) -> None:
    x = torch.randn(70, 128, generator=torch.Generator().manual_seed(2))
    for precision in ("bf16", "int8", "int4"):
        matrix = make_matrix(weights(), precision, CPU)
        matrix.plan = Plan(packed_rows=0)
        exact = matrix(x)
        matrix.plan = Plan(packed_rows=0, dense=dense)
        product = matrix(x)
        assert product.dtype == torch.float32
        assert (product - exact).abs().max() / exact.std() < 0.03


def test_int8_errs_by_half_a_step_at_most() -> None:
    weight = weights()
    quantized, scale = quantize_int8(weight)
    steps = (quantized.float() - weight / scale.unsqueeze(1)).abs()
    # a scale rounded to bfloat16 may clip the largest weight of a row by less than one step
    assert steps.max() < 1.0 and (steps > 0.5).float().mean() < 0.02
    assert torch.equal(scale, scale.bfloat16().float())


def test_blocks_of_rows_are_quantized_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = weights(101, 64)
    expected, expected_scale = quantize_int8(weight)
    monkeypatch.setattr("engine.quantize.BLOCK_VALUES", 10 * 64)
    quantized, scale = quantize_int8(weight)
    assert torch.equal(quantized, expected) and torch.equal(scale, expected_scale)


def test_int4_uses_all_sixteen_values_of_a_group() -> None:
    quantized = quantize_int4(weights())
    assert quantized.values.min() == 0 and quantized.values.max() == 15
    assert quantized.scale.shape == (128, 4) and not quantized.zero.any()


def test_wide_groups_take_less_room_where_they_fill_the_row() -> None:
    sizes = {name: make_matrix(weights(), name, CPU).num_bytes for name in ("int4", "int4-128")}
    assert sizes["int4"] - sizes["int4-128"] == 128 * 3 * 2  # three scales of a row in four
    narrow = weights(64, 192)
    assert (
        make_matrix(narrow, "int4-128", CPU).num_bytes == make_matrix(narrow, "int4", CPU).num_bytes
    )


def test_int4_is_closer_than_ggml_q4_0() -> None:
    weight = weights(256, 256)
    groups = weight.view(256, -1, 32)
    scale = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)) / -8
    q4_0 = (groups / scale).round().clamp(-8, 7) * scale
    error = (quantize_int4(weight).expand() - weight).square().mean()
    assert error < 0.98 * (q4_0.flatten(1) - weight).square().mean()


def test_a_group_of_zeros_stays_zero() -> None:
    weight = weights()
    weight[3, 32:64] = 0
    assert torch.equal(quantize_int4(weight).expand()[3, 32:64], torch.zeros(32))


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(("rows", "width"), [(64, 64), (192, 128), (128, 704)])
def test_packed_int4_expands_to_what_was_packed(
    rows: int, width: int, own: bool, zeros: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own:
        without_own_kernels(monkeypatch)
    quantized = quantize_int4(weights(rows, width))
    if zeros:
        quantized = Grouped(quantized.values, quantized.scale, quantized.scale.flip(0) * 2)
    matrix = make_matrix(quantized, "int4", CPU)
    if isinstance(matrix, Int4):
        expanded = torch.cat([matrix.expand(start) for start in range(0, rows, 64)])
    else:
        assert isinstance(matrix, Int4Panels)
        expanded = torch.cat([matrix.expand(slice(at, at + 64)) for at in range(0, rows, 64)])
    assert torch.equal(expanded, quantized.expand())


@pytest.mark.parametrize("shape", [(96, 1), (1,), (96,), (96, 4)])
def test_stored_int8_expands_exactly(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    stored = torch.randint(-128, 128, (96, 128), generator=generator, dtype=torch.int8)
    scale = torch.rand(shape, generator=generator) + 0.1
    expected = stored.float()
    if len(shape) == 2 and shape[1] > 1:
        expected = expected * scale.repeat_interleave(32, dim=1)
    else:
        expected = expected * scale.reshape(-1, 1)
    scaled = Scaled(stored, scale)
    assert torch.equal(scaled.expand(), expected)
    quantized, row_scale = scaled.per_row()
    relative = (quantized.float() * row_scale.unsqueeze(1) - expected).abs().max() / expected.max()
    assert relative < 0.01


def test_rows_are_embeddings() -> None:
    weight = weights()
    ids = torch.tensor([3, 127, 3])
    assert torch.equal(make_matrix(weight, "fp32", CPU).rows(ids), weight[ids])
    rows = make_matrix(weight, "int4", CPU, embedding=True).rows(ids)
    assert (rows.float() - weight[ids]).abs().max() / weight.abs().max() < 0.01


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize(
    ("rows", "width"), [(5, 56), (96, 33), (64, 8), (1, 1), (5, 64), (1, 128), (67, 192)]
)
def test_widths_that_torch_kernels_read_beyond(precision: Precision, rows: int, width: int) -> None:
    weight = weights(rows, width)
    x = torch.ones(2, width)
    product = make_matrix(weight, precision, CPU)(x)
    assert torch.allclose(product.float(), x.float() @ weight.T, atol=0.02 * width**0.5 + 0.1)


@pytest.mark.parametrize(("width", "groups"), [(192, 6), (256, 2)])
def test_four_bits_meet_a_gpus_kernels_as_torch_declares_them(width: int, groups: int) -> None:
    """No GPU computes here: torch's own declarations check shapes and dtypes."""
    real = quantize_int4(weights(64, width), width // groups)
    nowhere = torch.device("meta")
    with FakeTensorMode() as mode:
        fake = Grouped(*(mode.from_tensor(each) for each in (real.values, real.scale, real.zero)))
        matrix = Int4Tiles(fake, nowhere, torch.bfloat16)
        x = torch.empty(3, width, dtype=torch.bfloat16, device=nowhere)
        product = matrix(x)
    assert product.shape == (3, 64)
    assert (product.dtype, product.device.type) == (torch.bfloat16, "meta")
    assert matrix.num_bytes == 64 * width // 2 + 4 * 64 * groups


def test_four_bits_go_to_a_gpu_in_the_order_of_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A double unpacks what it gets as torch does: even columns in the upper half of a byte."""
    grouped = quantize_int4(weights(64, 128))
    given: list[torch.Tensor] = []

    def convert(pairs: torch.Tensor, deep: int) -> torch.Tensor:
        given.append(pairs)
        return torch.empty(64 // 8, 128 // (16 * deep), 32, deep // 2, dtype=torch.int32)

    def product(
        x: torch.Tensor, tiles: torch.Tensor, group: int, scale_zero: torch.Tensor
    ) -> torch.Tensor:
        assert tiles.shape == (8, 1, 32, 4)
        (pairs,) = given
        values = torch.stack((pairs >> 4, pairs & 15), dim=-1).flatten(1).float()
        scale, zero = scale_zero.float().transpose(0, 1).unbind(-1)  # (N, K / group)
        wide = (values.view(64, -1, group) - 8) * scale.unsqueeze(-1) + zero.unsqueeze(-1)
        return (x.float() @ wide.flatten(1).T).bfloat16()

    monkeypatch.setattr(torch.ops.aten, "_convert_weight_to_int4pack", convert)
    monkeypatch.setattr(torch.ops.aten, "_weight_int4pack_mm", product)
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(4)).bfloat16()
    matrix = Int4Tiles(grouped, CPU, torch.bfloat16)
    exact = (x.float() @ grouped.expand().T).bfloat16()
    assert torch.equal(matrix(x), exact)

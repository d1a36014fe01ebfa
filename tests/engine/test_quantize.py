"""Each precision of a matrix against the same product in float64."""

import pytest
import torch
from torch import Tensor

from engine.quantize import (
    DENSE_ROWS,
    Int4,
    Precision,
    Scaled,
    activation_dtype,
    make_matrix,
    quantize_int4,
    quantize_int8,
)

CPU = torch.device("cpu")

# Greatest error of a product with random normal weights, relative to its standard deviation.
TOLERANCE = {"fp32": 1e-4, "bf16": 0.03, "int8": 0.06, "int4": 0.5}


def weights(rows: int = 128, width: int = 128) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rows", [1, 3, DENSE_ROWS - 1, DENSE_ROWS, 70])
@pytest.mark.parametrize("precision", TOLERANCE)
def test_products_stay_within_the_tolerance(precision: Precision, rows: int) -> None:
    weight = weights()
    x = torch.randn(rows, 128, generator=torch.Generator().manual_seed(rows))
    x = x.to(activation_dtype(precision, CPU))
    exact = x.double() @ weight.double().T
    product = make_matrix(weight, precision, CPU)(x)
    assert product.dtype == x.dtype
    assert (product.double() - exact).abs().max() / exact.std() < TOLERANCE[precision]


def test_few_and_many_rows_multiply_by_the_same_weights() -> None:
    """The packed kernel and the dense path must not differ by more than rounding."""
    for precision in ("int8", "int4"):
        matrix = make_matrix(weights(), precision, CPU)  # type: ignore[arg-type]
        x = torch.randn(DENSE_ROWS, 128, generator=torch.Generator().manual_seed(2))
        many = matrix(x)
        few = torch.cat([matrix(x[at : at + 4]) for at in range(0, DENSE_ROWS, 4)])
        error = (many.double() - few.double()).abs().max() / many.double().std()
        assert error < 0.02, precision


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
    monkeypatch.setattr("engine.quantize._BLOCK_VALUES", 10 * 64)
    quantized, scale = quantize_int8(weight)
    assert torch.equal(quantized, expected) and torch.equal(scale, expected_scale)


def test_int4_uses_all_sixteen_values_of_a_group() -> None:
    values, scale_zero = quantize_int4(weights())
    assert values.min() == 0 and values.max() == 15
    assert scale_zero.shape == (4, 128, 2)


@pytest.mark.parametrize(("rows", "width"), [(64, 64), (192, 128), (128, 704)])
def test_packed_int4_expands_to_what_was_packed(rows: int, width: int) -> None:
    weight = weights(rows, width)
    values, scale_zero = quantize_int4(weight)
    matrix = make_matrix(weight, "int4", CPU)
    assert isinstance(matrix, Int4)
    scale, zero = scale_zero.float().transpose(0, 1).unsqueeze(-1).unbind(2)  # (N, K / group, 1)
    expected = (values.view(rows, -1, 32) - 8) * scale + zero
    expanded = torch.cat([matrix.expand(start) for start in range(0, rows, 64)])
    assert torch.equal(expanded, expected.flatten(1))


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

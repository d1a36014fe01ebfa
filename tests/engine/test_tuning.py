"""The way of each product is the one that was fastest here, and every plan computes the same."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine import tuning
from engine.checkpoint import open_checkpoint
from engine.llama import Llama
from engine.local import LocalEngine
from engine.matrices import make_matrix
from engine.options import Options
from engine.plans import Plan
from engine.quantize import Precision
from engine.weights import load_llama
from tests.engine.checkpoints import make_checkpoint

CPU = torch.device("cpu")


def load(folder: Path, precision: Precision) -> Llama:
    checkpoint = open_checkpoint(make_checkpoint(folder, hidden_size=128, intermediate_size=192))
    return load_llama(checkpoint, precision, CPU)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
def test_it_says_what_it_measured(precision: Precision, tmp_path: Path) -> None:
    model = load(tmp_path, precision)
    told = tuning.tune(model, seconds=60)
    assert told.startswith("1 row: ") and "64 rows: " in told and told.count("float32") == 2


def test_the_fastest_way_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are played: dense bfloat16 wins for many rows, torch's packed kernel for few."""
    model = load(tmp_path, "int8")

    def seconds(matrix: object, x: Tensor) -> float:
        plan = matrix.plan  # type: ignore[attr-defined]
        if len(x) == 1:
            return 1.0 if plan.packed_rows else 2.0
        return 1.0 if plan.dense == torch.bfloat16 else 2.0

    monkeypatch.setattr(tuning, "bfloat16_is_fast", lambda: True)
    monkeypatch.setattr(tuning, "_seconds", seconds)
    told = tuning.tune(model)
    assert told.index("torch's packed kernel 1e+03 ms") < told.index("float32 2e+03 ms")
    assert {matrix.plan for matrix in model.matrices()} == {
        Plan(own_rows=0, packed_rows=16, dense=torch.bfloat16)
    }


def test_no_time_changes_nothing(tmp_path: Path) -> None:
    model = load(tmp_path, "int8")
    before = [matrix.plan for matrix in model.matrices()]
    assert "not measured" in tuning.tune(model, seconds=0)
    assert [matrix.plan for matrix in model.matrices()] == before


@pytest.mark.parametrize("few", ["own kernel", "torch's packed kernel", "float32"])
@pytest.mark.parametrize("many", ["own kernel", "torch's packed kernel", "float32", "bfloat16"])
def test_every_plan_multiplies(few: str, many: str) -> None:
    weight = torch.randn(128, 128, generator=torch.Generator().manual_seed(1))
    matrix = make_matrix(weight, "int8", CPU)
    matrix.plan = tuning._limited(tuning._plan_from(few, many), matrix)
    for num in (1, 30):
        x = torch.randn(num, 128, generator=torch.Generator().manual_seed(num))
        exact = x @ weight.T
        assert (matrix(x) - exact).abs().max() / exact.std() < 0.06


def test_the_engine_says_what_was_measured(tmp_path: Path) -> None:
    engine = LocalEngine(make_checkpoint(tmp_path), Options(device="cpu", threads=1))
    try:
        told = engine.info().kernels
        assert told.startswith("1 row: ") or "not measured" in told
    finally:
        engine.close()

"""The GPU benchmark's logic, played on the CPU: what it counts, and what it leaves out."""

import torch

from benchmarks import gpu
from engine.config import parse_config
from engine.quantize import Precision
from engine.weights import load_llama
from tests.engine.checkpoints import BASE
from tests.engine.tapes import TapeRecorder, by_torch

CPU = torch.device("cpu")


def play(monkeypatch, taken: float, free: int = 1 << 40):  # type: ignore[no-untyped-def]
    """Every measurement takes `taken` seconds; the device has `free` bytes."""
    monkeypatch.setattr(gpu, "shape", lambda _name: parse_config(BASE))
    monkeypatch.setattr(gpu, "free_bytes", lambda _device: free)
    monkeypatch.setattr(gpu, "_LONG", 64)
    done: list[int] = []

    def seconds(work, _device, repeats: int = 5) -> float:  # type: ignore[no-untyped-def]
        work()
        done.append(repeats)
        return taken

    monkeypatch.setattr(gpu, "seconds", seconds)
    return done


def test_rates_and_the_part_of_the_bandwidth(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    play(monkeypatch, 0.5)
    precision: Precision = "bf16"
    result = gpu.ours("tiny", precision, CPU, 1e9, 4)
    assert result["tiny bf16 eager tokens/s"] == result["tiny bf16 eager tokens/s behind 64"] == 8.0
    assert result["tiny bf16 eager tokens/s, 16 users"] == 128.0
    assert result["tiny bf16 eager 16 users / one"] == 16.0
    size = gpu.weight_bytes(parse_config(BASE), precision, CPU)
    assert abs(float(result["tiny bf16 eager of the bandwidth"]) - 8 * size / 1e9) < 1e-3
    assert result["tiny bf16 graphs"] == "none on this device"


def test_recorded_steps_stand_beside(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    play(monkeypatch, 0.5)
    tape = TapeRecorder()
    monkeypatch.setattr(gpu, "recorder_for", lambda _device: tape)
    monkeypatch.setattr(gpu, "load_llama", lambda *given: by_torch(load_llama(*given)))
    result = gpu.ours("tiny", "int8", CPU, 1e9, 12)
    assert result["tiny int8 graphs tokens/s"] == result["tiny int8 eager tokens/s"] == 24.0
    assert tape.num_recorded >= 3 and tape.num_replayed > 12


def test_what_does_not_fit_is_named(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    done = play(monkeypatch, 0.5, free=1000)
    assert gpu.ours("tiny", "bf16", CPU, 1e9, 4) == {"tiny bf16": "does not fit"}
    assert gpu.transformers("tiny", CPU, 4) == {"tiny transformers": "does not fit"}
    assert not done


def test_a_real_run_of_all_of_it(capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(gpu, "shape", lambda _name: parse_config(BASE))
    monkeypatch.setattr(gpu, "_COPY_BYTES", 1 << 16)
    monkeypatch.setattr(gpu, "_LONG", 64)
    assert gpu.main(["--device", "cpu", "--shape", "tiny", "--new", "3", "--no-transformers"]) == 0
    out = capsys.readouterr().out
    assert "bandwidth GB/s" in out and "tiny int8 eager tokens/s, 16 users" in out

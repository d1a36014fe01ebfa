"""How true the prediction of memory is: `python -m benchmarks.fit [--json] [--only NAME]`.

For each shape and precision a checkpoint with random weights is written and loaded by a child
process, which then holds as many conversations as foreseen. Its resident memory beyond that of the
same process before loading is compared with `engine.fit.predict`:

- `error`: of the predicted peak, relative to the measured one
- `loading`: the peak while loading, relative to the weights
- `given_back`: the part of what was taken that is free again after the engine was closed
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

from launch.environment import clean_environment

STATUS = Path("/proc/self/status")

# Proportions of the generations at a size that loads in seconds: layers, hidden, heads, key-value
# heads, feed-forward, vocabulary, tied.
SHAPES = {
    "llama-2": (10, 1024, 16, 16, 2816, 32000, False),
    "llama-3": (8, 1024, 16, 4, 3584, 64000, False),
    "llama-3.2": (12, 1024, 16, 4, 4096, 64000, True),
    # Held out: no constant of `engine/fit.py` was measured on these.
    "smollm2": (30, 576, 9, 3, 1536, 49152, True),  # the real sizes of the 135M
    "tinyllama": (8, 1280, 20, 4, 3456, 32000, False),
    "code-llama": (6, 1536, 12, 12, 4096, 32016, False),
    "llama-3.2-1b": (8, 2048, 32, 8, 8192, 64000, True),  # half its layers and vocabulary
}


@dataclass(frozen=True)
class Case:
    """A model, how it is held, and what it is asked to hold."""

    shape: str
    precision: str
    context: int
    users: int

    @property
    def name(self) -> str:
        return f"{self.shape} {self.precision} {self.context}x{self.users}"


CASES = (
    Case("llama-2", "fp32", 512, 1),
    Case("llama-2", "bf16", 2048, 1),
    Case("llama-2", "int8", 1024, 4),
    Case("llama-2", "int4", 512, 1),
    Case("llama-3", "fp32", 2048, 2),
    Case("llama-3", "bf16", 512, 8),
    Case("llama-3", "int8", 4096, 1),
    Case("llama-3", "int4", 1024, 2),
    Case("llama-3.2", "bf16", 4096, 1),
    Case("llama-3.2", "int8", 512, 1),
    Case("llama-3.2", "int4", 2048, 2),
    Case("smollm2", "bf16", 512, 2),
    Case("smollm2", "int8", 1024, 1),
    Case("tinyllama", "bf16", 512, 1),
    Case("tinyllama", "int4", 512, 2),
    Case("code-llama", "fp32", 256, 1),
    Case("code-llama", "bf16", 512, 1),
    Case("code-llama", "int8", 512, 2),
    Case("code-llama", "int4", 256, 1),
    Case("llama-3.2-1b", "bf16", 256, 1),
    Case("llama-3.2-1b", "int8", 256, 1),
)


@dataclass(frozen=True)
class Measured:
    """What the child process took, in bytes beyond what it had before loading."""

    loading_bytes: int
    loaded_bytes: int
    peak_bytes: int
    left_bytes: int  # after the engine was closed


def write_checkpoint(folder: Path, name: str) -> None:
    """Random bfloat16 weights of the shape called `name`, with a tokenizer of bytes."""
    import torch
    from safetensors.torch import save_file

    from engine.config import parse_config
    from engine.weights import tensor_shapes
    from tests.engine.checkpoints import BASE, save_tokenizer

    layers, hidden, heads, kv_heads, ffn, vocab, tied = SHAPES[name]
    config = {
        **BASE,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": ffn,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 8192,
        "torch_dtype": "bfloat16",
    }
    shapes = tensor_shapes(parse_config(config))
    weights = {name: torch.randn(size).mul_(0.02).bfloat16() for name, size in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    save_tokenizer(folder)


def measure(folder: Path, case: Case) -> Measured:
    """Run the child for `case`. Linux only: it reads and resets the kernel's own peak."""
    line = [
        sys.executable,
        "-m",
        "benchmarks.fit",
        "--child",
        str(folder),
        json.dumps(asdict(case)),
    ]
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, env=clean_environment(folder)
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def child(folder: Path, case: Case) -> Measured:
    """Load, answer, close, and note the memory at each step."""
    from engine.local import LocalEngine
    from engine.options import Options
    from tests.engine.checkpoints import make_checkpoint

    with tempfile.TemporaryDirectory() as place:  # what the first model of a process brings stays
        first = make_checkpoint(Path(place), hidden_size=64, intermediate_size=128)
        LocalEngine(first, Options(device="cpu", precision=case.precision, threads=1)).close()
    before = _settled()
    _reset_peak()
    options = Options(
        device="cpu",
        precision=case.precision,
        cache_bytes=1 << 40,
        threads=1,
        measured=folder / case.name,  # as the app loads: what quantizing costs is measured
    )
    engine = LocalEngine(folder, options)
    loading, loaded = _status("VmHWM") - before, _settled() - before
    _reset_peak()
    workers = [Thread(target=_converse, args=(engine, case, user)) for user in range(case.users)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    peak = _status("VmHWM") - before
    engine.close()
    del engine
    return Measured(loading, loaded, max(loading, peak), _settled() - before)


def _converse(engine: object, case: Case, user: int) -> None:
    from engine.base import Prompt, Sampling
    from engine.local import LocalEngine

    assert isinstance(engine, LocalEngine)
    ids = [(user + 7 * at) % 255 for at in range(case.context - 4)]
    sampling = Sampling(temperature=0, max_new_tokens=4)
    for _ in engine.stream(Prompt(ids=ids), sampling, cancel=Event(), scope=f"u{user}"):
        pass


def _status(key: str) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB", STATUS.read_text(), re.M)
    assert match is not None
    return int(match[1]) << 10


def _settled() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew


def compare(case: Case, measured: Measured, folder: Path) -> dict[str, float | str]:
    """Predicted beside measured."""
    from typing import cast

    from engine.config import load_config
    from engine.fit import predict
    from engine.quantize import Precision

    config, _ = load_config(folder)
    precision = cast(Precision, case.precision)
    said = predict(config, precision, context=case.context, users=case.users)
    taken = measured.loaded_bytes
    return {
        "name": case.name,
        "predicted_megabytes": round(said.peak_bytes / 1e6, 1),
        "measured_megabytes": round(measured.peak_bytes / 1e6, 1),
        "error": round(said.peak_bytes / measured.peak_bytes - 1, 4),
        "loading": round(measured.loading_bytes / said.weight_bytes, 3),
        "given_back": round(1 - measured.left_bytes / taken, 4),
    }


def main() -> None:
    """Measure all cases, or those whose name begins with `--only`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        folder, case = options.child
        print(json.dumps(asdict(child(Path(folder), Case(**json.loads(case))))))
        return
    rows = []
    for shape in SHAPES:
        cases = [c for c in CASES if c.shape == shape and c.name.startswith(options.only)]
        if not cases:
            continue
        with tempfile.TemporaryDirectory() as place:
            write_checkpoint(Path(place), shape)
            for case in cases:
                rows.append(compare(case, measure(Path(place), case), Path(place)))
                print(rows[-1], file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps(rows))
        return
    print("| " + " | ".join(rows[0]) + " |\n" + "| --- " * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()

"""Who runs beside Corral's engine in the speed benchmarks, each in a process of its own.

A process loads its model, then does one round for each line it is sent: reading a prompt, and
writing tokens behind it. The benchmark sends lines in turn, so that whatever else the machine does
falls on all of them alike. All have the same random weights: those of `engine.bench.RandomWeights`,
which llama.cpp gets as a GGUF file, quantized by its own quantizer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import gguf
import torch

from engine.bench import RandomWeights
from engine.config import LlamaConfig
from engine.shapes import shape

ROOT = Path(__file__).resolve().parent.parent
# llama.cpp's name of the format that has as many bits a weight (8.5 and 4.5 of them).
FORMATS = {"fp32": "F32", "bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}
MISSING_PEER = (
    "llama.cpp is not compared: give --peer PYTHON, the interpreter of an environment "
    "with llama-cpp-python in it (`pip install llama-cpp-python`)."
)


@dataclass(frozen=True)
class Round:
    """Rates in tokens per second."""

    prefill: float
    decode: float


class Contender:
    """A process that does rounds."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = self._answer()  # what it says of itself once its model is loaded

    def round(self, num_prompt: int, num_new: int) -> Round:
        """One round: a prompt of `num_prompt`, then `num_new` greedy tokens."""
        answer = self.ask(num_prompt, num_new)
        return Round(float(answer["prefill"]), float(answer["decode"]))

    def ask(self, *numbers: int) -> dict[str, str | float]:
        """One round as `numbers` describe it to this kind of process."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(numbers) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, str | float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended before it answered.")
        answer: dict[str, str | float] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def ours(model: str, precision: str, threads: int) -> Contender:
    """Corral's engine. `model`: the name of a shape, or a folder."""
    code = "benchmarks.rounds"
    command = [sys.executable, "-m", code, "corral", model, precision, str(threads)]
    return Contender(f"Corral {precision}", command)


def transformers_peer(model: str, threads: int) -> Contender:
    """`generate` of transformers in bfloat16, as most people run it."""
    command = [sys.executable, "-m", "benchmarks.rounds", "transformers", model, "bf16"]
    return Contender("transformers bf16", [*command, str(threads)])


def llama_cpp(python: str, file: Path, name: str, threads: int) -> Contender:
    """llama.cpp through the llama-cpp-python of the interpreter `python`."""
    script = str(ROOT / "benchmarks" / "llama_cpp_rounds.py")
    return Contender(f"llama.cpp {name}", [python, script, "run", str(file), str(threads)])


def llama_cpp_users(python: str, file: Path, name: str, threads: int, most_users: int) -> Contender:
    """llama.cpp with parallel sequences; its rounds are `ask(users, num_prompt, num_new)`."""
    script = str(ROOT / "benchmarks" / "llama_cpp_users.py")
    command = [python, script, str(file), str(threads), str(most_users)]
    return Contender(f"llama.cpp {name}", command)


def gguf_file(shape_name: str, precision: str, folder: Path, python: str) -> Path:
    """The random weights of `shape_name` for llama.cpp; made once and kept in `folder`."""
    wanted = folder / f"{shape_name}-{FORMATS[precision]}.gguf"
    plain = folder / f"{shape_name}-BF16.gguf"
    if not plain.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_gguf(shape(shape_name), plain)
    if not wanted.exists():
        script = str(ROOT / "benchmarks" / "llama_cpp_rounds.py")
        part = wanted.with_suffix(".part")
        command = [python, script, "quantize", str(plain), str(part), FORMATS[precision]]
        subprocess.run(command, check=True, capture_output=True)
        part.rename(wanted)
    return wanted


def _write_gguf(config: LlamaConfig, path: Path) -> None:
    """All tensors in bfloat16, norms in float32, without a vocabulary."""
    weights = RandomWeights(config)
    writer = gguf.GGUFWriter(path.with_suffix(".part"), "llama")
    writer.add_context_length(min(config.context_length, 8192))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("none")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name in weights.tensors:
        tensor, theirs = weights.read(name), names.get_name(name, (".weight",))
        assert theirs is not None
        if tensor.dim() == 1:
            writer.add_tensor(theirs, tensor.float().numpy())
        else:
            stored = tensor.contiguous().view(torch.uint8).numpy()
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(theirs, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".part").rename(path)

"""How fast the engine writes, next to llama.cpp and transformers: `python -m benchmarks.decode`.

One row, greedy, on the CPU, random weights at the shape of a public Llama (or a folder with
`--model`, then without llama.cpp). Rounds are taken in turn; the figure is the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import peers
from engine.device import choose_threads


def main(arguments: list[str] | None = None, *, what: str = "decode") -> int:
    """Measure and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", default="llama-3.2-1b", help="see `python -m engine inspect`")
    parser.add_argument("--model", help="a model folder instead of a shape")
    parser.add_argument("--precision", action="append", choices=tuple(peers.FORMATS))
    parser.add_argument("--peer", help="the interpreter that has llama-cpp-python")
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument("--threads", type=int, default=choose_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512 if what == "prefill" else 16)
    parser.add_argument("--new", type=int, default=1 if what == "prefill" else 48)
    parser.add_argument("--files", type=Path, default=Path(tempfile.gettempdir()) / "corral-gguf")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    if not chosen.peer or chosen.model:
        print(peers.MISSING_PEER, file=sys.stderr)
    result = compare(chosen, what)
    print(json.dumps(result) if chosen.json else table(result, what))
    return 0


def compare(chosen: argparse.Namespace, what: str) -> dict[str, float | str]:
    """Tokens per second of every contender, and the ratios of ours to them."""
    model, result = chosen.model or chosen.shape, dict[str, float | str]()
    result["model"], result["threads"] = model, chosen.threads
    for precision in chosen.precision or ["bf16", "int8", "int4"]:
        contenders = [peers.ours(model, precision, chosen.threads)]
        if chosen.peer and not chosen.model:
            file = peers.gguf_file(model, precision, chosen.files, chosen.peer)
            name = peers.FORMATS[precision]
            contenders.append(peers.llama_cpp(chosen.peer, file, name, chosen.threads))
        if not chosen.no_transformers:
            contenders.append(peers.transformers_peer(model, chosen.threads))
        rates = take_turns(contenders, chosen, what)
        result |= {f"{name} ({precision})": rate for name, rate in rates.items()}
        own, *others = rates.items()
        for name, rate in others:
            result[f"ratio to {name} ({precision})"] = round(own[1] / rate, 3)
    return result


def take_turns(
    contenders: list[peers.Contender], chosen: argparse.Namespace, what: str
) -> dict[str, float]:
    """Median rate of each, by name; the first round of each is not counted."""
    rates: dict[str, list[float]] = {each.name: [] for each in contenders}
    for counted in [False, *[True] * chosen.rounds]:
        for each in contenders:
            done = each.round(chosen.prompt, chosen.new)
            if counted:
                rates[each.name].append(done.prefill if what == "prefill" else done.decode)
    for each in contenders:
        each.close()
    return {name: round(statistics.median(values), 2) for name, values in rates.items()}


def table(result: dict[str, float | str], what: str) -> str:
    """One line a figure."""
    lines = [f"{what}, tokens/s (ratios: ours / theirs)"]
    lines += [f"{name:44} {value!s:>12}" for name, value in result.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

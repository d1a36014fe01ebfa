"""What a precision costs in quality: `python -m benchmarks.quality FILE.jsonl [--model M]`.

Bits per byte of the replies in FILE (as `python -m engine score` counts them) in each precision,
against float32, and the part of the places in each last reply where both would have written the
same token. int8, which `auto` takes on a CPU, may lose 1 %, and int4 5 %; more is said. Weights
that are stored in int8 lose nothing in int8 but what rounding the activations costs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.base import Message, Prompt
from engine.catalog import resolve
from engine.errors import ContextFull
from engine.evaluate import Score, read_conversations, score_conversation
from engine.kv_cache import Kept
from engine.local import LocalEngine
from engine.opening import open_model
from engine.options import Options

# Parts of the bits per byte in float32 that may be lost, by how weights, keys and values are kept.
INT8_CACHE = "fp32, int8 keys and values"
LIMITS = {"bf16": 0.01, "int8": 0.01, INT8_CACHE: 0.01, "int4": 0.05, "int4-128": 0.05}


@dataclass(frozen=True)
class Read:
    """What a model made of the rows."""

    bits_per_byte: float
    likeliest: list[int]  # at each place of each last reply


def main() -> int:
    """Measure and print a table, or one JSON object; 1 if a precision loses too much."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=Path, help="conversations, one JSON object a line (.xz too)")
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--most", type=int, default=200, help="conversations that are read")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    folder = resolve(chosen.model)
    exact = read(folder, "fp32", chosen.rows, chosen.most)
    result: dict[str, float] = {"fp32": round(exact.bits_per_byte, 4)}
    lost = {}
    for precision in LIMITS:
        ours = read(folder, precision, chosen.rows, chosen.most)
        result[precision] = round(ours.bits_per_byte, 4)
        lost[precision] = ours.bits_per_byte / exact.bits_per_byte - 1
        result[f"{precision} loses"] = round(lost[precision], 5)
        same = sum(a == b for a, b in zip(ours.likeliest, exact.likeliest, strict=True))
        result[f"{precision} equal tokens"] = round(same / max(1, len(exact.likeliest)), 4)
    if chosen.json:
        print(json.dumps({"model": chosen.model, **result}))
    else:
        print("\n".join(f"{name:40} {value:9.5f}" for name, value in result.items()))
    failed = [precision for precision, limit in LIMITS.items() if lost[precision] > limit]
    for precision in failed:
        print(f"{precision} loses more than {LIMITS[precision]:.0%}.", file=sys.stderr)
    return 1 if failed else 0


def read(folder: Path, precision: str, rows: Path, most: int) -> Read:
    """The first `most` conversations of `rows`, by the model in `folder`."""
    form = open_model(folder).format
    weights, _, cache = precision.partition(", ")
    kept: Kept = "int8" if cache else "auto"
    engine = LocalEngine(folder, Options(precision=weights, kept=kept, device="cpu"))
    try:
        total, tokens = Score(), list[int]()
        for messages in itertools.islice(read_conversations(rows), most):
            total += score_conversation(
                engine, form, messages, context_length=engine.info().context_length
            )
            tokens += likeliest(engine, messages)
        return Read(total.bits_per_byte, tokens)
    finally:
        engine.close()


def likeliest(engine: LocalEngine, messages: Sequence[Message]) -> list[int]:
    """What the model would have written at each place of the last reply; [] if it is too long."""
    prompt = Prompt(messages=messages[:-1], reply_prefix=messages[-1]["content"])
    try:
        places = engine.retrace(prompt, num_alternatives=1)
    except ContextFull:
        return []
    return [place.alternatives[0][0] for place in places]


if __name__ == "__main__":
    sys.exit(main())

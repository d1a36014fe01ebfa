"""What a precision costs in quality: `python -m benchmarks.quality FILE.jsonl [--model M]`.

Bits per byte of the replies in FILE (as `python -m engine score` counts them) in each precision,
against float32. int8, which `auto` takes on a CPU, may lose 1 %, and int4 5 %; more is said.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

from engine.catalog import resolve
from engine.evaluate import Score, read_conversations, score_conversation
from engine.local import LocalEngine
from engine.opening import open_model

LIMITS = {"bf16": 0.01, "int8": 0.01, "int4": 0.05}  # parts of the bits per byte in float32


def main() -> int:
    """Measure and print a table, or one JSON object; 1 if a precision loses too much."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=Path, help="conversations, one JSON object a line (.xz too)")
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--most", type=int, default=200, help="conversations that are read")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    folder = resolve(chosen.model)
    exact = bits_per_byte(folder, "fp32", chosen.rows, chosen.most)
    result: dict[str, float] = {"fp32": round(exact, 4)}
    lost = {}
    for precision in LIMITS:
        bits = bits_per_byte(folder, precision, chosen.rows, chosen.most)
        result[precision] = round(bits, 4)
        lost[precision] = bits / exact - 1
        result[f"{precision} loses"] = round(lost[precision], 5)
    if chosen.json:
        print(json.dumps({"model": chosen.model, **result}))
    else:
        print("\n".join(f"{name:14} {value:9.5f}" for name, value in result.items()))
    failed = [precision for precision, limit in LIMITS.items() if lost[precision] > limit]
    for precision in failed:
        print(f"{precision} loses more than {LIMITS[precision]:.0%}.", file=sys.stderr)
    return 1 if failed else 0


def bits_per_byte(folder: Path, precision: str, rows: Path, most: int) -> float:
    """Of the replies in the first `most` conversations of `rows`."""
    form = open_model(folder).format
    engine = LocalEngine(folder, precision=precision, device="cpu")
    try:
        total = Score()
        for messages in itertools.islice(read_conversations(rows), most):
            total += score_conversation(
                engine, form, messages, context_length=engine.info().context_length
            )
        return total.bits_per_byte
    finally:
        engine.close()


if __name__ == "__main__":
    sys.exit(main())

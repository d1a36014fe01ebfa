"""First token of a late turn: kept, read again, after a restart: `python -m benchmarks.turns`.

A history of 4,096 tokens and a new message of 48, random weights at the shape of a public Llama.
The restart is a new scheduler that finds the conversation on the disk, without loading weights.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from benchmarks.engine_rows import Bench, arguments, ended, load, tokens
from engine.disk_tier import DiskTier
from engine.llama import Llama

SCOPE = "owner/conversation"


def measure(model: Llama, threads: int, history: int, rounds: int) -> dict[str, float]:
    """Median seconds to the first token of each way, and how much sooner the two others come."""
    vocab_size = model.config.vocab_size
    found: dict[str, list[float]] = {"kept": [], "read_again": [], "restarted": []}
    with tempfile.TemporaryDirectory() as place:
        for at in range(rounds):
            past = tokens(history, at, vocab_size)
            first = Bench(model, threads, disk=DiskTier(Path(place), "benchmark", 1 << 40))
            ended(first.ask(past, 1, scope=SCOPE))
            for name, scope in (("kept", SCOPE), ("read_again", "")):
                prompt = [*past, *tokens(48, 1000 + at, vocab_size)]
                cost = ended(first.ask(prompt, 1, scope=scope))[1]
                found[name].append(cost.first_token_seconds)
            first.scheduler.close()
            second = Bench(model, threads, disk=DiskTier(Path(place), "benchmark", 1 << 40))
            cost = ended(second.ask(prompt, 1, scope=SCOPE))[1]
            found["restarted"].append(cost.first_token_seconds)
            second.scheduler.close()
    result = {name: statistics.median(values) for name, values in found.items()}
    result["kept_sooner"] = result["read_again"] / result["kept"]
    result["restarted_sooner"] = result["read_again"] / result["restarted"]
    return result


def main() -> None:
    """Measure and print a table, or one JSON object."""
    chosen = arguments(__doc__, history=4096, rounds=3).parse_args()
    model = load(chosen.model, chosen.precision)
    result = measure(model, chosen.threads, chosen.history, chosen.rounds)
    if chosen.json:
        print(json.dumps(result))
        return
    for name in ("kept", "restarted"):
        ratio = result[f"{name}_sooner"]
        print(f"{name:12} {1000 * result[name]:8.0f} ms   {ratio:6.1f} x sooner")
    print(f"{'read again':12} {1000 * result['read_again']:8.0f} ms")


if __name__ == "__main__":
    main()

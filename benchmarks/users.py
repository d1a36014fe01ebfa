"""What all users get together: `python -m benchmarks.users`.

1 to 16 people ask at once; tokens per second over all, next to llama.cpp with as many parallel
sequences (`--peer`), and how much of a greedy reply in company is the same as alone (random weights
have many near ties: take a folder with `--model` for that).
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.engine_rows import Bench, arguments, ended, load, tokens
from engine.shapes import SHAPES

USERS = (1, 2, 4, 8, 16)
NUM_PROMPT = 32


def together(bench: Bench, num_users: int, num_new: int) -> tuple[float, list[list[int]]]:
    """Tokens per second of everybody, and their replies."""
    vocab_size = bench.model.config.vocab_size
    began = time.perf_counter()
    streams = [
        bench.ask(tokens(NUM_PROMPT, user, vocab_size), num_new, scope=f"user-{user}")
        for user in range(num_users)
    ]
    replies = [ended(stream)[0] for stream in streams]
    rate = num_users * num_new / (time.perf_counter() - began)
    for user in range(num_users):
        bench.scheduler.forget(f"user-{user}")
    return rate, replies


def measure(
    bench: Bench, num_new: int, rounds: int, peer: peers.Contender | None = None
) -> list[dict[str, Any]]:
    """One row for each number of users, medians of `rounds` taken in turn."""
    alone = [
        ended(bench.ask(tokens(NUM_PROMPT, user, bench.model.config.vocab_size), num_new))[0]
        for user in range(max(USERS))
    ]
    rates: dict[int, list[float]] = {num: [] for num in USERS}
    theirs: dict[int, list[float]] = {num: [] for num in USERS}
    same: dict[int, float] = {}
    for _ in range(rounds):
        for num in USERS:
            rate, replies = together(bench, num, num_new)
            rates[num].append(rate)
            if peer is not None:
                answer = peer.ask(num, NUM_PROMPT, num_new)
                theirs[num].append(float(answer["tokens_per_second"]))
            pairs = [
                a == b
                for one, other in zip(replies, alone, strict=False)
                for a, b in zip(one, other, strict=True)
            ]
            same[num] = sum(pairs) / len(pairs)
    one = statistics.median(rates[1])
    return [
        {
            "users": num,
            "tokens_per_second": statistics.median(values),
            "against_one": statistics.median(values) / one,
            "equal_tokens": same[num],
        }
        | _beside(values, theirs[num])
        for num, values in rates.items()
    ]


def _beside(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """The peer's rate, and ours over it."""
    if not theirs:
        return {}
    rate = statistics.median(theirs)
    return {
        "llama_cpp_tokens_per_second": rate,
        "against_llama_cpp": statistics.median(ours) / rate,
    }


def main() -> None:
    """Measure and print a table, or one JSON list."""
    parser = arguments(__doc__, new=128, rounds=3)
    parser.add_argument("--peer", help="the interpreter that has llama-cpp-python")
    parser.add_argument("--files", type=Path, default=Path(tempfile.gettempdir()) / "corral-gguf")
    chosen = parser.parse_args()
    peer = None
    if chosen.peer and chosen.model in SHAPES:
        file = peers.gguf_file(chosen.model, chosen.precision, chosen.files, chosen.peer)
        name = peers.FORMATS[chosen.precision]
        peer = peers.llama_cpp_users(chosen.peer, file, name, chosen.threads, max(USERS))
    else:
        print(peers.MISSING_PEER, file=sys.stderr)
    bench = Bench(load(chosen.model, chosen.precision), chosen.threads)
    rows = measure(bench, chosen.new, chosen.rounds, peer)
    bench.scheduler.close()
    if peer is not None:
        peer.close()
    if chosen.json:
        print(json.dumps(rows))
        return
    print("users   tokens/s   against one   equal tokens   against llama.cpp")
    for row in rows:
        told = f"{row['against_llama_cpp']:15.2f} x" if peer is not None else ""
        print(
            f"{row['users']:5} {row['tokens_per_second']:10.1f} {row['against_one']:12.2f} x"
            f" {100 * row['equal_tokens']:12.1f} % {told}"
        )


if __name__ == "__main__":
    main()

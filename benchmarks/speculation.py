"""What prompt lookup gives: `python -m benchmarks.speculation`.

Replies are told, not drawn, so that both sides write the same and random weights will do: once a
text with every twelfth word changed after the text itself (rewriting), once a text after another
(open chat). Passes, lookups and draws are real. With speculation against without, in turn.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from benchmarks.engine_rows import Bench, arguments, ended, load
from engine.tokenizer import load_tokenizer

ROOT = Path(__file__).parent.parent
TOKENIZER = ROOT / "assets/models/corral-chat"


def tasks(num_new: int) -> dict[str, tuple[list[int], list[int]]]:
    """Prompt and reply of each task, as ids."""
    tokenizer = load_tokenizer(TOKENIZER)
    words = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split()[:500]
    text = words[:250]
    rewritten = [f"({word})" if at % 12 == 11 else word for at, word in enumerate(text)]
    prompt = tokenizer.encode(" ".join(text))
    return {
        "rewriting": (prompt, tokenizer.encode(" ".join(rewritten))[:num_new]),
        "open chat": (prompt, tokenizer.encode(" ".join(words[250:]))[:num_new]),
    }


def main() -> None:
    """Measure and print a table, or one JSON object."""
    chosen = arguments(__doc__, new=160, rounds=3).parse_args()
    model = load(chosen.model, chosen.precision)
    ways = {
        name: Bench(model, chosen.threads, speculate=name == "with") for name in ("with", "without")
    }
    result: dict[str, dict[str, float]] = {}
    for task, (prompt, reply) in tasks(chosen.new).items():
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(chosen.rounds):
            for name, bench in ways.items():
                stream = bench.ask(prompt, len(reply), scope="owner", reply=reply)
                rates[name].append(ended(stream)[1].tokens_per_second)
        result[task] = {name: statistics.median(values) for name, values in rates.items()}
        result[task]["ratio"] = result[task]["with"] / result[task]["without"]
    for bench in ways.values():
        bench.scheduler.close()
    if chosen.json:
        print(json.dumps(result))
        return
    for task, rates_of in result.items():
        print(
            f"{task:10} {rates_of['with']:7.1f} : {rates_of['without']:.1f} tokens/s"
            f"   {rates_of['ratio']:.2f} x"
        )


if __name__ == "__main__":
    main()

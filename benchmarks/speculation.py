"""What guessing ahead gives, by lookup and by a draft: `python -m benchmarks.speculation`.

Replies are told, not drawn, so that both sides write the same and random weights will do: once a
text with every twelfth word changed after the text itself (rewriting), once a text after another
(open chat). Passes, lookups and draws are real. With speculation against without, in turn.

`--draft SHAPE` measures a smaller model that guesses for the larger one in open chat. Its passes
are real too; its guesses are told, and right as often as the row says: how often a draft is right
depends on the weights of both. `--model FOLDER --draft FOLDER` tells nothing at all.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine_rows import Bench, ToldDraft, arguments, ended, load
from engine.llama import Llama
from engine.shapes import SHAPES
from engine.tokenizer import load_tokenizer

ROOT = Path(__file__).parent.parent
TOKENIZER = ROOT / "assets/models/corral-chat"
RIGHT = (0.9, 0.7, 0.0)  # parts of a draft's guesses; of the last nothing can come but rest
Result = dict[str, dict[str, float]]


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


def compare(
    guessing: Bench,
    plain: Bench,
    prompt: Sequence[int],
    reply: Sequence[int],
    *,
    num_new: int,
    rounds: int,
) -> dict[str, float]:
    """Median rates with guesses and without, of rounds in turn; no `reply`: what they write."""
    rates: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(rounds):
        for name, bench in (("with", guessing), ("without", plain)):
            stream = bench.ask(prompt, len(reply) or num_new, scope="owner", reply=reply)
            rates[name].append(ended(stream)[1].tokens_per_second)
    found = {name: statistics.median(values) for name, values in rates.items()}
    return found | {"ratio": found["with"] / found["without"]}


def by_lookup(model: Llama, threads: int, num_new: int, rounds: int) -> Result:
    """What prompt lookup gives in each task."""
    guessing, plain = Bench(model, threads, speculate=True), Bench(model, threads)
    found = {
        task: compare(guessing, plain, prompt, reply, num_new=num_new, rounds=rounds)
        for task, (prompt, reply) in tasks(num_new).items()
    }
    guessing.scheduler.close()
    plain.scheduler.close()
    return found


def by_draft(
    model: Llama, draft: Llama, threads: int, num_new: int, rounds: int, *, told: bool
) -> Result:
    """What a draft model gives in open chat: right as often as each row says, or as it is."""
    prompt, reply = tasks(num_new)["open chat"]
    ways: dict[str, Llama | ToldDraft] = {"draft as it is": draft}
    if told:
        ways = {f"draft right {rate:.0%}": ToldDraft(draft, rate) for rate in RIGHT}
    found: Result = {}
    for name, way in ways.items():
        if isinstance(way, ToldDraft):
            way.text = [*prompt, *reply]
        guessing, plain = Bench(model, threads, speculate=True, draft=way), Bench(model, threads)
        said = reply if told else ()
        found[name] = compare(guessing, plain, prompt, said, num_new=num_new, rounds=rounds)
        guessing.scheduler.close()
        plain.scheduler.close()
    return found


def main() -> None:
    """Measure and print a table, or one JSON object."""
    parser = arguments(__doc__, new=160, rounds=3)
    parser.add_argument("--draft", default="", help="a smaller shape, or a folder if --model is")
    chosen = parser.parse_args()
    model = load(chosen.model, chosen.precision)
    result = by_lookup(model, chosen.threads, chosen.new, chosen.rounds)
    if chosen.draft:
        draft = load(chosen.draft, chosen.precision, vocab_size=model.config.vocab_size)
        told = chosen.model in SHAPES
        result |= by_draft(model, draft, chosen.threads, chosen.new, chosen.rounds, told=told)
    if chosen.json:
        print(json.dumps(result))
        return
    for task, rates_of in result.items():
        print(
            f"{task:16} {rates_of['with']:7.1f} : {rates_of['without']:.1f} tokens/s"
            f"   {rates_of['ratio']:.2f} x"
        )


if __name__ == "__main__":
    main()

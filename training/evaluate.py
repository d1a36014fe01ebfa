"""How good a chat model is: held-out bits per byte, and a battery of questions with checks.

Everything runs through Corral's own engine, as on the page:
`python -m training.evaluate --model DIR`. The result is a table on stdout, with `--card FILE` also
in the place of the same table in a model card, and with `--json FILE` every prompt with its reply.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from threading import Event

from engine.base import Message, Prompt, Sampling
from engine.chat_format import chat_format_for
from engine.evaluate import Score, score_conversation
from engine.local import LocalEngine
from engine.options import Options
from engine.tokenizer import load_tokenizer
from training.battery import Case, battery, english, loops
from training.chat import BUNDLED, FULL, REPOSITORY, Place, rows_of
from training.sources import held_out

MAX_NEW_TOKENS = 300
ROWS_PER_SOURCE = 40  # held-out conversations scored per source

Answer = Callable[[Sequence[Message]], tuple[str, bool]]


@dataclass(frozen=True)
class Result:
    """One case tried: the last prompt and reply, and what held of it."""

    kind: str
    prompt: str
    reply: str
    right: bool
    ended: bool
    looped: bool
    in_language: bool


def try_case(case: Case, answer: Answer) -> Result:
    """Talk through the case; every reply of it must end and must not loop."""
    messages: list[Message] = []
    if case.system:
        messages.append({"role": "system", "content": case.system})
    reply, all_ended, any_loop = "", True, False
    for turn in case.turns:
        messages.append({"role": "user", "content": turn})
        reply, ended = answer(messages)
        messages.append({"role": "assistant", "content": reply})
        all_ended &= ended
        any_loop |= loops(reply)
    in_language = case.kind == "Chinese" or english(reply)
    return Result(case.kind, case.turns[-1], reply, case.check(reply) and in_language, all_ended,
                  any_loop, in_language)  # fmt: skip


def engine_answer(engine: LocalEngine, sampling: Sampling) -> Answer:
    """Answers of a loaded model; nothing is kept in its cache."""

    def answer(messages: Sequence[Message]) -> tuple[str, bool]:
        pieces, reason = [], None
        prompt = Prompt(messages=messages)
        for chunk in engine.stream(prompt, sampling, cancel=Event(), scope="evaluation/battery"):
            pieces.append(chunk.text)
            reason = chunk.finish_reason or reason
        return "".join(pieces), reason == "stop"

    return answer


def run_battery(answer: Answer, cases: Sequence[Case]) -> list[Result]:
    """Every case in order."""
    return [try_case(case, answer) for case in cases]


def table(results: Sequence[Result]) -> str:
    """Pass rate per kind, then what must hold of every reply, as a Markdown table."""
    kinds: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        kinds[result.kind].append(result)
    lines = ["| kind | right | of |", "| --- | --- | --- |"]
    for kind, group in kinds.items():
        right = sum(result.right for result in group)
        lines.append(f"| {kind} | {right} ({right / len(group):.0%}) | {len(group)} |")
    total = len(results)
    right = sum(result.right for result in results)
    lines.append(f"| **all** | **{right} ({right / total:.0%})** | {total} |")
    lines.append(f"| ends by itself | {sum(r.ended for r in results)} | {total} |")
    lines.append(f"| loops | {sum(r.looped for r in results)} | {total} |")
    lines.append(f"| stays in the language | {sum(r.in_language for r in results)} | {total} |")
    return "\n".join(lines)


def held_out_scores(engine: LocalEngine, folder: Path, place: Place) -> dict[str, Score]:
    """Bits per byte of the assistant's turns over held-out rows, per source that has them."""
    tokenizer = load_tokenizer(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    form = chat_format_for(folder, config, tokenizer)
    context_length = engine.info().context_length
    scores: dict[str, Score] = {}
    for source in place.sources:
        if source.prose or not (source.language or source.assistant):
            continue
        if not source.own and not (place.data / source.path).exists():
            continue
        rows = islice(filter(held_out, rows_of(source, place, FULL)), ROWS_PER_SOURCE)
        total = Score()
        for row in rows:
            messages: list[Message] = [
                {"role": turn["role"], "content": turn["content"]}  # type: ignore[typeddict-item]
                for turn in row["messages"]
            ]
            total += score_conversation(engine, form, messages, context_length=context_length)
        scores[source.name] = total
    return scores


def held_out_table(scores: dict[str, Score]) -> str:
    """Bits per byte of each source, as a Markdown table."""
    lines = ["| held-out rows of | bits per byte | replies |", "| --- | --- | --- |"]
    lines += [f"| {name} | {s.bits_per_byte:.3f} | {s.num_replies} |" for name, s in scores.items()]
    return "\n".join(lines)


def renew(card: str, table: str) -> str:
    """The card with its table of the same heading replaced; ValueError if it has none."""
    heading = table.splitlines()[0]
    lines = card.splitlines()
    if heading not in lines:
        raise ValueError(f"no table in the card begins with: {heading}")
    start = end = lines.index(heading)
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    return "\n".join([*lines[:start], *table.splitlines(), *lines[end:]]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--limit", type=int, help="at most this many cases of each kind")
    parser.add_argument("--no-battery", action="store_true")
    parser.add_argument("--no-held-out", action="store_true")
    parser.add_argument("--json", type=Path, help="write every prompt and reply here")
    parser.add_argument("--card", type=Path, help="put the tables into this model card")
    args = parser.parse_args()
    engine = LocalEngine(args.model, Options(device="cpu"))
    tables: list[str] = []
    try:
        if not args.no_battery:
            cases = battery()
            if args.limit:
                seen: dict[str, int] = defaultdict(int)
                kept = []
                for case in cases:
                    seen[case.kind] += 1
                    kept += [case] if seen[case.kind] <= args.limit else []
                cases = kept
            sampling = Sampling(temperature=args.temperature, max_new_tokens=MAX_NEW_TOKENS, seed=1)
            results = run_battery(engine_answer(engine, sampling), cases)
            if args.json:
                rows = [json.dumps(asdict(result), ensure_ascii=False) for result in results]
                args.json.write_text("\n".join(rows) + "\n", encoding="utf-8")
            tables.append(table(results))
            print(tables[-1], flush=True)
        if not args.no_held_out:
            place = Place(args.data, Path(), Path(), smoke=False)
            tables.append(held_out_table(held_out_scores(engine, args.model, place)))
            print("\n" + tables[-1])
    finally:
        engine.close()
    for each in tables if args.card else ():
        args.card.write_text(renew(args.card.read_text(encoding="utf-8"), each), encoding="utf-8")


if __name__ == "__main__":
    main()

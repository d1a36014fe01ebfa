"""What being judged costs: `python -m benchmarks.safety [--runs N] [--json]`.

- `check`: milliseconds of one judgement by the guard, of prompts and of growing answers.
- `guarded`: the same prompts with the guard and with one that lets everything pass at once, by
  turns: time to the first emitted token, tokens per second, how long text waits for its release.
- `shape`: the rate of a told reply at the shape of a public Llama, judged by the gate, and not
  judged at all (`benchmarks/side_jobs.py`); `--shape ""` leaves it out.
- `tokens`: what a generative guard reads for one answer, its cache kept and cropped, and read anew.

Medians; the two sides of each ratio by turns, so that a noisy machine hits both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from benchmarks.by_turns import compared, rates_by_turns
from benchmarks.first_token import PROMPTS, finish, start
from benchmarks.served import served, tell
from safety.base import Guard, Verdict
from storage.records import OWNER_ID

if TYPE_CHECKING:
    from app.services import Services
    from engine.reading import ReadingModel

ANSWER_TOKENS, EVERY = 1024, 32
SHAPE_TOKENS = 160  # of a reply at the shape of a public Llama


class Silent:
    """Lets everything pass at once: what a turn costs without a guard."""

    name = "silent"
    version = "1"

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """Nothing is unsafe."""
        return Verdict(0.0, {}, self.name, self.version)


def main() -> int:
    """Run all and print the rows of docs/benchmarks.md, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.safety", description=__doc__)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--shape", default="llama-3.2-1b", help="int8, random weights")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with served("--model", args.model) as (services, _site):
        guard = services.guard.wait(Event())
        found: dict[str, Any] = {
            "model": services.engine.wait(Event()).info().model,
            "bundled": args.model == "built-in",
            "guard": guard.name,
            "check": check(guard, args.runs),
            "guarded": guarded(services, guard, args.runs),
            "tokens": tokens_read(),
        }
    if args.shape:  # after the server has ended, so that nothing else computes
        found["shape"] = {"name": args.shape, **at_shape(args.shape, min(args.runs, 5))}
    if args.json:
        tell(found["model"], found, as_json=True)
        return 0
    command = f"python -m benchmarks.safety {' '.join(sys.argv[1:])}".strip()
    for what, figure, goal in rows(found):
        print(f"| {what} | {figure} | {goal} | `{command}` | {date.today().isoformat()} |")
    return 0


def rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What was measured, as lines of a table: what, figure, goal."""
    check, chat, tokens = found["check"], found["guarded"], found["tokens"]
    yield (
        "one check by the built-in guard: a prompt / a growing reply",
        f"{check['prompt_ms']:.1f} / {check['reply_ms']:.1f} ms",
        "≤ 15 ms",
    )
    yield "what the prompt's check adds to the first token", f"{chat['added_ms']:.0f} ms", "≤ 50 ms"
    rates = f"{chat['tokens_per_second']:,.0f} : {chat['unguarded_tokens_per_second']:,.0f}"
    goal = "≥ 0.75" if found["bundled"] else "≥ 0.95"
    yield (
        f"tokens/s guarded, against unguarded, {found['model']}",
        f"{rates} ({chat['ratio']:.2f})",
        goal,
    )
    if shape := found.get("shape"):
        rates = f"{shape['guarded']:.1f} : {shape['unguarded']:.1f}"
        ratio = shape["guarded against unguarded"]
        yield f"the same at the {shape['name']} shape, int8", f"{rates} ({ratio:.2f})", "≥ 0.95"
    held = chat["emitted_to_released_ms"]
    yield "text from the engine to its release by the gate", f"{held:.1f} ms", ""
    kept, anew = tokens["kept"], tokens["anew"]
    yield (
        f"tokens a generative guard reads for an answer of {tokens['answer_tokens']:,}, cache kept "
        "/ read anew",
        f"{kept:,} ({tokens['kept_per_answer_token']:.1f} ×) / {anew:,}",
        "≤ 6 ×",
    )


def at_shape(shape: str, rounds: int) -> dict[str, float]:
    """Tokens per second with the gate and without, of random int8 weights at a public shape."""
    from benchmarks.engine_rows import Bench, load
    from benchmarks.side_jobs import Written
    from engine.device import choose_threads

    bench = Bench(load(shape, "int8"), choose_threads())
    found = compared(
        rates_by_turns(Written(bench, SHAPE_TOKENS).rate, ("unguarded", "guarded"), rounds)
    )
    bench.scheduler.close()
    return {name: round(value, 3) for name, value in found.items()}


def check(guard: Guard, runs: int) -> dict[str, float]:
    """Milliseconds a judgement: each text once, so that nothing is remembered."""
    prompts, replies = [], []
    for run in range(runs):
        for number, prompt in enumerate(PROMPTS):
            text = f"{prompt} ({run})"
            prompts.append(_timed(guard, text, None))
            reply = ""
            for piece in range(8):
                reply += f"Sentence {piece} of answer {number} in run {run} says what it has to. "
                replies.append(_timed(guard, text, reply))
    return {
        "prompt_ms": round(statistics.median(prompts), 2),
        "prompt_p95_ms": round(sorted(prompts)[int(0.95 * (len(prompts) - 1))], 2),
        "reply_ms": round(statistics.median(replies), 2),
        "reply_p95_ms": round(sorted(replies)[int(0.95 * (len(replies) - 1))], 2),
    }


def _timed(guard: Guard, prompt: str, reply: str | None) -> float:
    began = time.perf_counter()
    verdict = guard.judge(prompt, reply)
    assert not verdict.failed, verdict.failed
    return 1000 * (time.perf_counter() - began)


def guarded(services: Services, guard: Guard, runs: int) -> dict[str, float]:
    """First emitted token, rate and release, with the guard and without, by turns."""
    first: dict[str, list[float]] = {"with": [], "without": []}
    rates: dict[str, list[float]] = {"with": [], "without": []}
    released = []
    for run in range(runs + 1):  # the first round warms up
        for side, judge in (("with", guard), ("without", Silent())):
            services.guard.replace(lambda judge=judge: judge)  # type: ignore[misc]
            services.guard.wait(Event())
            for prompt in PROMPTS:
                job = start(services, f"{prompt} ({run} {side})")
                finish(job)
                view = job.view()
                run_of = services.store.message(OWNER_ID, job.key, job.reply_id).generations
                if not run or not view.emitted_at or not run_of:
                    continue
                first[side].append(view.emitted_at - view.started_at)
                if run_of[-1].tokens_per_second:
                    rates[side].append(run_of[-1].tokens_per_second)
                if side == "with" and view.released_at:
                    released.append(view.released_at - view.emitted_at)
    median = {side: statistics.median(values) for side, values in first.items()}
    rate = {side: statistics.median(values) for side, values in rates.items()}
    return {
        "first_token_ms": round(1000 * median["with"], 1),
        "first_token_unguarded_ms": round(1000 * median["without"], 1),
        "added_ms": round(1000 * (median["with"] - median["without"]), 1),
        "tokens_per_second": round(rate["with"], 1),
        "unguarded_tokens_per_second": round(rate["without"], 1),
        "ratio": round(rate["with"] / rate["without"], 3),
        "emitted_to_released_ms": round(1000 * statistics.median(released), 1),
    }


def tokens_read() -> dict[str, float]:
    """Tokens that a Llama Guard 3 reads for one answer. Random weights: only counts matter."""
    from safety.llama_guard import FORMATS, LlamaGuard

    with tempfile.TemporaryDirectory() as place:
        model = _random_model(Path(place))
        words = model.tokenizer.encode(" and so the story of the lighthouse went on" * 400)
        ids = words[:ANSWER_TOKENS]
        answers = [model.tokenizer.decode(ids[:n]) for n in range(EVERY, ANSWER_TOKENS + 1, EVERY)]
        kept = _num_read(model, LlamaGuard(model, FORMATS["3"]), answers)
        anew = 0
        for answer in answers:
            whole = FORMATS["3"].head(is_reply=True) + f"User: {PROMPTS[0]}\n\nAgent: {answer}"
            whole += FORMATS["3"].closing(is_reply=True)
            anew += len(model.tokenizer.encode_marked(whole))
        model.close()
    return {
        "answer_tokens": ANSWER_TOKENS,
        "checks": len(answers),
        "kept": kept,
        "anew": anew,
        "kept_per_answer_token": round(kept / ANSWER_TOKENS, 2),
        "ratio": round(anew / kept, 2),
    }


def _num_read(model: ReadingModel, guard: Guard, answers: list[str]) -> int:
    before = model.num_read
    for answer in answers:
        assert not guard.judge(PROMPTS[0], answer).failed
    return model.num_read - before


def _random_model(folder: Path) -> ReadingModel:
    """A tiny Llama with the built-in model's tokenizer and room for a whole answer."""
    import shutil

    import torch
    from safetensors.torch import save_file

    from engine.catalog import BUILT_IN_FOLDER
    from engine.reading import ReadingModel
    from engine.tokenizer import load_tokenizer

    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (BUILT_IN_FOLDER / name).is_file():
            shutil.copy(BUILT_IN_FOLDER / name, folder / name)
    size, hidden = load_tokenizer(BUILT_IN_FOLDER).vocab_size, 16
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": size,
        "hidden_size": hidden, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_act": "silu",
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "torch_dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    layer = "model.layers.0"
    shapes = {
        "model.embed_tokens": (size, hidden),
        f"{layer}.self_attn.q_proj": (hidden, hidden),
        f"{layer}.self_attn.k_proj": (hidden // 2, hidden),
        f"{layer}.self_attn.v_proj": (hidden // 2, hidden),
        f"{layer}.self_attn.o_proj": (hidden, hidden),
        f"{layer}.mlp.gate_proj": (32, hidden),
        f"{layer}.mlp.up_proj": (32, hidden),
        f"{layer}.mlp.down_proj": (hidden, 32),
    }
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{n}.weight": torch.randn(*s, generator=generator) for n, s in shapes.items()}
    for norm in ("model.norm", f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"):
        tensors[f"{norm}.weight"] = torch.ones(hidden)
    save_file(tensors, folder / "model.safetensors")
    return ReadingModel(folder, device="cpu", precision="fp32", run=lambda job: job())


if __name__ == "__main__":
    sys.exit(main())

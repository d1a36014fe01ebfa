"""Where the time to the first word goes: `python -m benchmarks.first_token [--model M] [--json]`.

- `page`: a prompt sent in a real browser; from Enter to the engine's first text, to the gate's
  first release, to the first painted character, all on this machine's clock.
- `reuse`: first token of turn 10 with the conversation in the KV cache, against reading it anew.

Medians of several runs, the two sides of each ratio by turns, so that a noisy machine hits both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING

from benchmarks.served import page_at, served, tell

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from app.job import Job
    from app.services import Services
    from engine.base import Engine, Message

PROMPTS = (
    "Hello! How are you today?",
    "Tell me a short story about a lighthouse.",
    "What do you like about the sea?",
    "Name three fruits.",
    "Can you explain why the sky is blue?",
)
SCOPE = "benchmark"

# Notes, on the browser's clock, when Enter was pressed, and when the reply first shows a character,
# growing or (a short one) at once in the transcript. -1: not waiting for one.
WATCH = """() => {
  const now = () => (performance.timeOrigin + performance.now()) / 1000;
  document.addEventListener('keydown', () => { window.entered = now(); }, true);
  window.painted = -1;
  const shown = (place) => [...document.querySelectorAll(place)].some((e) => e.textContent.trim());
  const look = () => {
    if (window.painted === 0 && (shown('#live .md') || shown('#window .turn.reply .md'))) {
      window.painted = -2;
      requestAnimationFrame(() => requestAnimationFrame(() => { window.painted = now(); }));
    }
  };
  for (const id of ['live', 'window']) {
    new MutationObserver(look).observe(
      document.getElementById(id), {childList: true, subtree: true, characterData: true});
  }
}"""


def main() -> int:
    """Run both and print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_token", description=__doc__)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with served("--model", args.model) as (services, site):
        engine = services.engine.wait(services.closing)
        found = {
            "reuse": reuse(engine, args.runs),
            "page": with_page(services, site.entrance.url(), args.runs),
        }
    tell(engine.info().model, found, as_json=args.json)
    return 0


def reuse(engine: Engine, runs: int) -> dict[str, float]:
    """Milliseconds to the first token of turn 10, the conversation kept and read anew."""
    from engine.base import Prompt, Sampling

    forget: Callable[[str], None] = engine.forget  # type: ignore[attr-defined]  # LocalEngine's
    kept, anew, num_prompt, num_reused = [], [], 0, 0
    for _ in range(runs):
        messages: list[Message] = []
        for turn in range(10):
            messages.append({"role": "user", "content": PROMPTS[turn % len(PROMPTS)]})
            for sweep in ("kept", "anew") if turn == 9 else ("kept",):
                if sweep == "anew":
                    forget(SCOPE)
                chunks = list(
                    engine.stream(
                        Prompt(messages=messages),
                        Sampling(temperature=0.0, max_new_tokens=48),
                        cancel=Event(),
                        scope=SCOPE,
                    )
                )
                cost = chunks[-1].statistics
                assert cost is not None
                if turn == 9:
                    (kept if sweep == "kept" else anew).append(cost.first_token_seconds * 1000)
                    if sweep == "kept":
                        num_prompt, num_reused = cost.num_prompt, cost.num_reused
            text = "".join(chunk.text for chunk in chunks)
            ids = [token for chunk in chunks for token in chunk.ids]
            messages.append({"role": "assistant", "content": text, "ids": ids})
        forget(SCOPE)
    return {
        "prompt_tokens": num_prompt,
        "reused_tokens": num_reused,
        "kept_ms": round(statistics.median(kept), 2),
        "anew_ms": round(statistics.median(anew), 2),
        "ratio": round(statistics.median(anew) / statistics.median(kept), 2),
    }


def with_page(services: Services, url: str, runs: int) -> dict[str, float]:
    """Medians of what a browser sees."""
    emitted, released, painted = [], [], []
    with page_at(url) as page:
        page.evaluate(WATCH)
        for run in range(runs + 1):
            job = send(services, page, PROMPTS[run % len(PROMPTS)])
            finish(job)
            page.wait_for_function("window.painted > 0")
            view = job.view()
            entered, seen = page.evaluate("[window.entered, window.painted]")
            if run:  # the first one warms caches up on both sides
                emitted.append((view.emitted_at - entered) * 1000)
                released.append((view.released_at - view.emitted_at) * 1000)
                painted.append((seen - view.released_at) * 1000)
    return {
        "enter_to_emitted_ms": round(statistics.median(emitted), 1),
        "emitted_to_released_ms": round(statistics.median(released), 1),
        "released_to_painted_ms": round(statistics.median(painted), 1),
    }


def send(services: Services, page: Page, text: str) -> Job:
    """Send `text` in a new conversation by the page's own composer; the job it became."""
    page.wait_for_selector("#send:visible")
    page.locator("[data-act=new]").first.click()
    page.wait_for_selector("#window .empty")
    page.evaluate("window.painted = 0")
    page.fill("#ask", text)
    before = services.jobs.running_keys(1)
    page.keyboard.press("Enter")
    deadline = time.time() + 30
    while time.time() < deadline:
        for key in services.jobs.running_keys(1) - before:
            job = services.jobs.running(1, key)
            if job is not None:
                return job
        page.wait_for_timeout(1)
    raise SystemExit("The page did not start a turn.")


def start(services: Services, text: str) -> Job:
    """The same turn with nobody watching."""
    from app.requests import Send

    return services.jobs.start(1, Send(None, None, text, client_key=str(time.time_ns())))


def finish(job: Job) -> None:
    """Wait for the end of a turn without touching the interpreter often."""
    while job.view().phase != "ended":
        time.sleep(0.02)


def rate(services: Services, job: Job) -> float:
    """Decode rate of a finished turn, as the engine measured it, in tokens/s."""
    finish(job)
    generations = services.store.message(1, job.key, job.reply_id).generations
    return generations[-1].tokens_per_second


if __name__ == "__main__":
    sys.exit(main())

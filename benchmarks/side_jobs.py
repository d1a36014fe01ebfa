"""What a guard costs the chat that it judges: `python -m benchmarks.side_jobs`.

A reply is written at the shape of a public Llama while the built-in guard judges all of it after
every 32 tokens: not at all, as side jobs of the loop that writes, and on a thread of its own with
a team of threads of its own. The reply is told, so that the guard reads text. Rates in turn.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from threading import Thread

from benchmarks.engine_rows import Bench, arguments, load
from benchmarks.speculation import TOKENIZER, tasks
from engine.tokenizer import load_tokenizer
from safety.base import Guard
from safety.built_in import load_parts
from safety.panel import Panel

EVERY = 32  # tokens


class Written:
    """A reply of `num_new` tokens at a time, and the guards that may judge it."""

    def __init__(self, bench: Bench, num_new: int) -> None:
        self._bench = bench
        self._prompt, self._reply = tasks(num_new)["open chat"]
        self._tokenizer = load_tokenizer(TOKENIZER)
        self._question = self._tokenizer.decode(self._prompt)
        self.aside = Panel(load_parts(run=bench.scheduler.aside))
        self.apart = Panel(load_parts())

    def rate(self, guard: Guard | None, begin: Callable[[Callable[[], None]], None]) -> float:
        """Tokens per second of one reply; `begin` starts each judgement."""
        stream = self._bench.ask(self._prompt, len(self._reply), reply=self._reply)
        seen: list[int] = []
        for chunk in stream:
            seen += chunk.ids
            if guard is not None and chunk.ids and len(seen) % EVERY == 0:
                text = self._tokenizer.decode(seen)
                begin(lambda text=text: self._judge(guard, text))  # type: ignore[misc]
        statistics = chunk.statistics
        assert statistics is not None
        return statistics.tokens_per_second

    def _judge(self, guard: Guard, text: str) -> None:
        if failed := guard.judge(self._question, text).failed:
            raise SystemExit(f"The guard failed: {failed}")


def at_once(job: Callable[[], None]) -> None:
    """As the gate does: the reader waits for the verdict, the writer does not."""
    job()


def beside(job: Callable[[], None]) -> None:
    """On a thread that nobody waits for."""
    Thread(target=job, daemon=True).start()


def measure(written: Written, rounds: int) -> dict[str, float]:
    """Median rates of the three ways, and the ratios to the first."""
    rates: dict[str, list[float]] = {"unguarded": [], "side jobs": [], "two teams": []}
    for counted in [False, *[True] * rounds]:
        found = (
            written.rate(None, at_once),
            written.rate(written.aside, at_once),
            written.rate(written.apart, beside),
        )
        for name, rate in zip(rates, found, strict=True):
            if counted:
                rates[name].append(rate)
    result = {name: statistics.median(values) for name, values in rates.items()}
    for name in ("side jobs", "two teams"):
        result[f"{name} against unguarded"] = result[name] / result["unguarded"]
    return result


def main() -> None:
    """Measure and print a table, or one JSON object."""
    chosen = arguments(__doc__, new=192, rounds=5).parse_args()
    bench = Bench(load(chosen.model, chosen.precision), chosen.threads)
    result = measure(Written(bench, chosen.new), chosen.rounds)
    bench.scheduler.close()
    if chosen.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:28} {value:8.2f}")


if __name__ == "__main__":
    main()

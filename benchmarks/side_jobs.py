"""What a guard costs the chat that it judges: `python -m benchmarks.side_jobs`.

A reply is written at the shape of a public Llama, and judged meanwhile. The reply is told, so that
the guard reads text although the weights are random. Rates in turn:

- `unguarded`: nobody judges;
- `guarded`: the gate and the built-in guard, as in every turn;
- `side jobs`: the guard's encoder reads the reply after every 32 tokens, on the loop that writes;
- `two teams`: the same on a thread of its own, with a team of threads of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from benchmarks.by_turns import rates_by_turns, tell_rates
from benchmarks.engine_rows import Bench, arguments, load
from benchmarks.speculation import TOKENIZER, tasks
from engine.detokenize import Detokenizer
from engine.tokenizer import load_tokenizer
from safety.base import Guard
from safety.built_in import load_parts
from safety.gate import Gate
from safety.panel import Panel
from safety.policy import DEFAULT_POLICY, Decision

EVERY = 32  # tokens
WAYS = ("unguarded", "guarded", "side jobs", "two teams")
Watch = Callable[[str, int], None]  # new text, and of how many tokens it is


class Written:
    """A reply of `num_new` tokens, and those who may read along."""

    def __init__(self, bench: Bench, num_new: int) -> None:
        self._bench = bench
        self._prompt, self._reply = tasks(num_new)["open chat"]
        self._tokenizer = load_tokenizer(TOKENIZER)
        self._question = self._tokenizer.decode(self._prompt)
        self._aside = Panel(load_parts(run=bench.scheduler.aside))
        self._apart = Panel(load_parts())

    def rate(self, way: str) -> float:
        """Tokens per second of one reply."""
        watch, text = self._watch(way), Detokenizer(self._tokenizer)
        stream = self._bench.ask(self._prompt, len(self._reply), scope="owner", reply=self._reply)
        for chunk in stream:
            if chunk.ids:
                watch("".join(map(text.push, chunk.ids)), len(chunk.ids))
        assert chunk.statistics is not None
        return chunk.statistics.tokens_per_second

    def _watch(self, way: str) -> Watch:
        match way:
            case "guarded":
                return self._gated()
            case "side jobs":
                return self._reading(self._aside)
            case "two teams":
                return self._reading(self._apart)
        return lambda text, num_tokens: None

    def _gated(self) -> Watch:
        def judge(reply: str) -> Decision:
            return DEFAULT_POLICY.decide(self._aside.judge(self._question, reply), "reply")

        gate = Gate(judge)

        def watch(text: str, num_tokens: int) -> None:
            gate.push(text, num_tokens)
            if gate.closed:
                raise SystemExit("The guard ended the reply, so this measures nothing.")

        return watch

    def _reading(self, guard: Guard) -> Watch:
        """Nobody waits for a verdict: a text is judged as a prompt, which the encoder reads."""
        seen, num_seen = "", 0

        def judge(text: str) -> None:
            if failed := guard.judge(text).failed:
                raise SystemExit(f"The guard failed: {failed}")

        def watch(text: str, num_tokens: int) -> None:
            nonlocal seen, num_seen
            seen, num_seen = seen + text, num_seen + num_tokens
            if num_seen % EVERY < num_tokens:
                Thread(target=judge, args=(seen,), daemon=True).start()

        return watch


def main() -> None:
    """Measure and print a table, or one JSON object."""
    chosen = arguments(__doc__, new=192, rounds=5).parse_args()
    bench = Bench(load(chosen.model, chosen.precision), chosen.threads)
    rates = rates_by_turns(Written(bench, chosen.new).rate, WAYS, chosen.rounds)
    bench.scheduler.close()
    tell_rates(rates, as_json=chosen.json)


if __name__ == "__main__":
    main()

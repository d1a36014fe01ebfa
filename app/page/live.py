"""The growing answer: its finished blocks, the open one, and a line on what is going on."""

from __future__ import annotations

from itertools import count

from app.chinese import converted
from app.choices import Choices
from app.job import Job, JobView
from app.render import LiveRendering, Renderer
from app.strings import Strings
from app.thinking import split

_NUMBERS = count(1)  # Gradio paints no value that equals the last one, even one that was not shown
NUM_BLOCKS = 8  # finished blocks in an update; a page that has missed more asks to follow anew


class LiveAnswer:
    """One page's view of a running job. An update costs the same however long the answer is."""

    def __init__(self, job: Job, renderer: Renderer, strings: Strings) -> None:
        self._job = job
        self._say = strings.say
        self._thought, self._answer = LiveRendering(renderer), LiveRendering(renderer)
        self._num_values = 0
        self._language = Choices.of(job.task.conversation).shown_language

    def value(self, view: JobView) -> dict[str, object]:
        """What the live pane shows of `view`: at first all of it, then its end."""
        self._num_values += 1
        parts = split(converted(view.text, self._language), growing=True)
        thought: dict[str, object] | None = None
        if parts.thought:
            label = "page.turn.thinking" if parts.open else "page.turn.thought"
            told = self._say(label, count=f"{len(parts.thought):,}")
            thought = {"label": told, **self._grown(self._thought, parts.thought)}
        return {
            "reply": self._job.reply_id,
            "key": self._job.key,
            "number": next(_NUMBERS),
            "thought": thought,
            **self._grown(self._answer, parts.answer),
            "writing": view.phase == "writing",
            "line": self._line(view),
        }

    def _grown(self, rendering: LiveRendering, text: str) -> dict[str, object]:
        rendering.update(text)
        first = max(0, len(rendering.blocks) - NUM_BLOCKS) if self._num_values > 1 else 0
        tail = rendering.tail if text else ""
        return {"first": first, "blocks": rendering.blocks[first:], "tail": tail}

    def _line(self, view: JobView) -> str:
        if view.place_in_queue and view.phase == "waiting" and not view.waiting_for:
            return self._say("page.live.waiting.queue")
        if view.phase == "waiting":
            name = f"page.live.waiting.{view.waiting_for}"
            known = view.waiting_for in ("guard", "engine")
            return self._say(name if known else "page.live.waiting")
        if view.phase == "judging":
            return self._say("page.live.judging")
        if view.phase == "reading":
            if not view.num_prompt:
                return self._say("page.live.reading")
            done, whole = f"{view.num_prefilled:,}", f"{view.num_prompt:,}"
            return self._say("page.live.reading_tokens", done=done, all=whole)
        if not view.text:
            return self._say("page.live.held")
        rate = view.tokens_per_second
        return self._say("page.live.rate", rate=f"{rate:.1f}") if rate else ""

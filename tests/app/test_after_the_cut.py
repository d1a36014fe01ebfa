"""What the guard held back is nowhere: not in the page, the API, the database or an export."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from app import export
from app.page.shielding import Reader
from app.page.templates import Templates
from app.page.transcript import Transcript
from app.render import Renderer
from app.strings import Strings
from engine.base import Chunk, Prompt, Sampling
from safety.gate import MODES
from storage.records import OWNER_ID
from storage.store import Store
from tests.app.fakes import Bench, TellingEngine, WordGuard, api_pieces

BAD, AFTER = "a forbidden fruit", "zqxjkv"  # what is stopped, and a mark of all that comes after it
PIECES = ("word ", "two. ", "\n\n", "你好。", "🦙", "`code` ", "! ", "\r\n", "1.5 ", "*", "é ")
TEMPLATES, RENDERER = Templates(Strings.load("en")), Renderer()


class Torn(TellingEngine):
    """Says one text in pieces that end anywhere, also within the words that are stopped."""

    def __init__(self, text: str, draw: random.Random) -> None:
        super().__init__()
        self.text, self.draw = text, draw

    def stream(
        self, prompt: Prompt, sampling: Sampling, *, cancel: Event, scope: str
    ) -> Iterator[Chunk]:
        at = 0
        while at < len(self.text):
            end = at + self.draw.randint(1, 9)
            yield Chunk(self.text[at:end], (at,), num_prompt=1)
            at = end
        yield self._end("stop", at)


def torn(draw: random.Random) -> Torn:
    before = "".join(draw.choices(PIECES, k=draw.randint(0, 60)))
    after = "".join(draw.choices([*PIECES, AFTER], k=draw.randint(0, 40)))
    return Torn(f"{before}{BAD} {AFTER} {after}", draw)


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.full)])
def test_what_comes_after_the_cut_is_nowhere(tmp_path: Path, count: int) -> None:
    draw = random.Random(count)
    store, guard = Store.open(tmp_path / "data"), WordGuard(words=("forbidden fruit",))
    seen = []
    for number in range(count):
        engine, mode = torn(draw), MODES[number % len(MODES)]
        turn = (bench := Bench(store, engine, guard, gate_mode=mode)).ask("Hi")
        assert turn.reply.status == "cut"
        told = "".join(step.text for step in bench.steps)
        assert told == turn.reply.content
        assert engine.text.startswith(told)
        pieces = api_pieces(engine, guard, mode=mode)
        assert pieces[-1].finish == "content_filter"
        path = store.path(OWNER_ID, bench.key)
        conversation = store.conversation(OWNER_ID, bench.key)
        page = Transcript(TEMPLATES, RENDERER).items(path, reader=Reader(may_override=True))
        seen += [told, "".join(piece.text for piece in pieces), *(html for _, html in page)]
        seen.append(export.html(conversation, path, TEMPLATES, RENDERER))
        seen.append(export.markdown(conversation, path, "You"))
    store.export(everything := io.StringIO(), user_id=OWNER_ID)
    seen.append(everything.getvalue())
    assert store.search(OWNER_ID, AFTER) == []
    store.close()
    for text in seen:
        assert AFTER not in text and "forbidden fruit" not in text
    raw = b"".join(file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file())
    assert AFTER.encode() not in raw and b"forbidden fruit" not in raw

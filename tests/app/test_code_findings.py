"""What the code checks found stays with the reply: on the page, in exports, in the API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from app import export
from app.page.shielding import Reader
from app.page.templates import Templates
from app.page.transcript import Transcript
from app.render import Renderer
from app.strings import Strings
from safety.code_blocks import CodeBlock
from safety.code_check import NotChecked
from safety.code_rules import WEAKNESSES, Finding
from storage.records import OWNER_ID, MessageRecord, VerdictRecord
from storage.store import Store
from tests.app.api.house import House, events
from tests.app.fakes import Bench, TellingEngine

REPLY = (
    "<think>\n```python\neval(x)\n```\n</think>\nUse:\n\n"
    "```python\nx = 1\n```\n\n```php\necho 1;\n```\nDone."
)
TEMPLATES = Templates(Strings.load("en"))


def look(block: CodeBlock) -> Sequence[Finding]:
    """A second look: it knows what the own check does not, and cannot read PHP."""
    if block.language == "php":
        raise NotChecked("It took too long.")
    return (
        [Finding("far-away-rule", 1234, "high", 1, "Assigns <one>.")]
        if "x = 1" in block.code
        else []
    )


def transcript(path: Sequence[MessageRecord]) -> str:
    return Transcript(TEMPLATES, Renderer()).items(path, reader=Reader())[-1][1]


def code_verdict(record: MessageRecord) -> VerdictRecord:
    (found,) = (verdict for verdict in record.verdicts if verdict.stage == "code")
    return found


@pytest.fixture
def key(tmp_path: Path) -> str:
    """A conversation whose reply was written with a second look, in a store that was closed."""
    store = Store.open(tmp_path / "data")
    bench = Bench(store, TellingEngine([REPLY]))
    bench.means = replace(bench.means, look=look)
    bench.ask("Code, please")
    store.close()
    return bench.key


def test_after_a_restart_the_page_shows_what_the_second_look_had_found(
    tmp_path: Path, key: str
) -> None:
    store = Store.open(tmp_path / "data")
    path = store.path(OWNER_ID, key)
    assert [block.state for block in code_verdict(path[-1]).blocks] == [
        "flagged", "flagged", "not checked",
    ]  # fmt: skip
    html = transcript(path)
    answer = html.partition("</details>")[2]  # after the folded thought
    assert answer.count('class="code-note') == 2
    assert answer.index("x</span>") < answer.index("CWE-1234") < answer.index("not_checked")
    assert "Assigns &lt;one&gt;." in html
    store.close()


def test_exports_have_the_findings_and_a_document_brings_them_along(
    tmp_path: Path, key: str
) -> None:
    store, other = Store.open(tmp_path / "data"), Store.open(tmp_path / "other")
    page = export.html(
        store.conversation(OWNER_ID, key), store.path(OWNER_ID, key), TEMPLATES, Renderer()
    )
    assert "CWE-1234" in page
    document = json.loads(json.dumps(store.document(OWNER_ID, key)))
    (verdict,) = (v for v in document["messages"][-1]["verdicts"] if v["stage"] == "code")
    assert verdict["blocks"][1]["findings"][0]["cwe"] == 1234
    verdict["blocks"].append({"digest": "f", "state": "harmless", "findings": 5})  # is left out
    made = other.add_document(OWNER_ID, document)
    (kept,) = (code_verdict(m) for m in other.path(OWNER_ID, made.key) if m.role == "assistant")
    assert kept.blocks == code_verdict(store.path(OWNER_ID, key)[-1]).blocks
    store.close()
    other.close()


def test_a_reply_from_elsewhere_gets_the_quick_check() -> None:
    content = "```python\nimport os\nos.system(x)\n```"
    record = MessageRecord(2, 1, 1, "assistant", "done", content, 0, 0, sibling_ids=(2,))
    html = transcript([record])
    assert "CWE-78" in html
    assert "Line 2" in html


def test_where_the_check_breaks_down_code_is_not_called_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr("app.judging.judge_code", broken)
    monkeypatch.setattr("app.page.shielding.check_code", broken)
    store = Store.open(tmp_path)
    turn = Bench(store, TellingEngine(["```python\nhere(5)\n```"])).ask("Hi")
    assert code_verdict(turn.reply).reason
    assert "code-note not_checked" in transcript([turn.prompt, turn.reply])
    store.close()


def test_the_api_tells_them_and_keeps_them_where_it_stores(tmp_path: Path) -> None:
    house = House(tmp_path, engine=TellingEngine(["```python\neval(x)\n```"]))
    whole = house.chat(store=True).json["choices"][0]
    (block,) = whole["code_blocks"]
    assert (block["state"], block["findings"][0]["cwe"]) == ("flagged", 95)
    last = events(house.chat(stream=True))[-1]["choices"][0]
    assert last["code_blocks"] == whole["code_blocks"]
    kept = house.services.store.conversations(OWNER_ID)[0]
    reply = house.services.store.path(OWNER_ID, kept.key)[-1]
    assert code_verdict(reply).blocks[0].findings[0].line == 1
    house.services.close()
    house = House(tmp_path / "plain")
    assert "code_blocks" not in house.chat().json["choices"][0]
    house.services.close()


@pytest.mark.parametrize("language", ["en", "zh-Hans", "zh-Hant"])
def test_every_weakness_has_its_sentence(language: str) -> None:
    told = Strings.load(language).section("safety.weakness.")
    assert set(told) == set(WEAKNESSES)
    if language == "en":
        assert told == {rule: weakness.what for rule, weakness in WEAKNESSES.items()}

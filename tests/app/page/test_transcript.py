"""Messages as markup: what each state shows and which buttons it offers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.page.shielding import Reader
from app.page.templates import Templates
from app.page.transcript import LONG_PROMPT_CHARS, Transcript
from app.render import Renderer
from app.strings import Strings
from storage.records import Action, Generation, MessageRecord, Stage, Status, VerdictRecord

TRANSCRIPT = Transcript(Templates(Strings.load("en")), Renderer())
READER = Reader()
PROMPT = MessageRecord(1, 1, None, "user", "done", "hi <b>", 0, 0, sibling_ids=(1,))
REPLY = MessageRecord(2, 1, 1, "assistant", "done", "**yes**", 0, 0, sibling_ids=(2,))


def verdict(action: Action, *, stage: Stage = "final", category: str = "") -> VerdictRecord:
    return VerdictRecord(stage, "g", "1", action, 0.75, category, 0.5)


def generation(finish_reason: str = "stop", num_left_out: int = 0) -> Generation:
    counts = {"num_prompt": 1236, "num_reused": 1204, "num_new": 9, "num_left_out": num_left_out}
    times = {"queue_seconds": 0.0, "first_token_seconds": 0.21, "total_seconds": 1.0}
    return Generation(
        *("m", "f", "cpu", "fp32", {}, 1),
        **counts,
        **times,  # type: ignore[arg-type]
        tokens_per_second=38.44,
        finish_reason=finish_reason,
    )


def shown(reply: MessageRecord, prompt: MessageRecord = PROMPT, reader: Reader = READER) -> str:
    return dict(TRANSCRIPT.items([prompt, reply], reader=reader))[f"m{reply.id}"]


def test_a_prompt_is_plain_text() -> None:
    html = dict(TRANSCRIPT.items([PROMPT], reader=READER))["m1"]
    assert 'dir="auto">hi &lt;b&gt;</div>' in html
    assert 'data-act="edit"' in html
    assert "versions" not in html


def test_a_checked_reply_has_its_shield_and_its_numbers() -> None:
    html = shown(replace(REPLY, verdicts=(verdict("allow"),), generations=(generation(),)))
    assert "<strong>yes</strong>" in html
    assert "shield ok" in html
    assert "38.4 tok/s · first word 0.21 s · 1,204 of 1,236 tokens reused" in html
    assert 'data-act="again" data-id="1"' in html
    assert 'data-act="continue"' not in html


@pytest.mark.parametrize(
    ("actions", "state"),
    [
        (["allow", "allow"], "ok"),
        (["log"], "ok"),
        (["allow", "warn"], "warn"),
        (["unchecked"], "warn"),
        ([], "warn"),
    ],
)
def test_the_shield_says_the_worst(actions: list[Action], state: str) -> None:
    verdicts = tuple(verdict(action, category="privacy") for action in actions)
    assert f"shield {state}" in shown(replace(REPLY, verdicts=verdicts))


def test_text_without_a_verdict_is_never_called_checked() -> None:
    prompt = replace(PROMPT, verdicts=(verdict("allow", stage="prompt"),))
    html = shown(replace(REPLY, status="stopped"), prompt)
    assert "not checked" in html
    assert "shield ok" not in html


def test_a_blocked_prompt_gets_a_card_with_a_meter_and_a_way_on() -> None:
    blocked = verdict("block", stage="prompt", category="privacy")
    prompt = replace(PROMPT, status="blocked", verdicts=(blocked,))
    html = shown(replace(REPLY, status="blocked", content=""), prompt)
    assert 'class="notice stop"' in html
    assert "width:75%" in html
    assert "left:50%" in html
    assert 'data-act="edit-prompt" data-id="1"' in html
    assert 'data-act="again"' not in html
    assert "Privacy" in html


@pytest.mark.parametrize("language", ["en", "zh-Hans", "zh-Hant"])
@pytest.mark.parametrize("action", ["block", "warn"])
def test_a_notice_on_self_harm_offers_help_and_the_owners_contacts(
    language: str, action: Action
) -> None:
    templates = Templates(Strings.load(language))
    found = verdict(action, stage="prompt", category="self_harm")
    blocked = action == "block"
    prompt = replace(PROMPT, status="blocked" if blocked else "done", verdicts=(found,))
    reply = replace(REPLY, status="blocked" if blocked else "done", content="")
    reader = Reader(contacts="Lifeline: 0800 1 <i>\nA friend")
    html = dict(Transcript(templates, Renderer()).items([prompt, reply], reader=reader))["m2"]
    help = templates.strings.say("guard.self_harm_help")
    assert f'<p class="help" dir="auto">{help}\nLifeline: 0800 1 &lt;i&gt;\nA friend</p>' in html
    other = replace(prompt, verdicts=(replace(found, category="hate"),))
    assert "Lifeline" not in shown(reply, other, reader)


def test_a_guard_that_failed_shows_no_meter() -> None:
    failed = replace(verdict("block", stage="prompt"), reason="it stopped", score=1.0)
    prompt = replace(PROMPT, status="blocked", verdicts=(failed,))
    html = shown(replace(REPLY, status="blocked", content=""), prompt)
    assert 'class="notice stop"' in html
    assert "meter" not in html


@pytest.mark.parametrize(
    ("status", "finish_reason", "can_continue"),
    [
        ("stopped", "cancelled", True),
        ("interrupted", "", True),
        ("done", "length", True),
        ("done", "stop", False),
        ("cut", "", False),
        ("error", "", False),
    ],
)
def test_what_can_be_continued(status: Status, finish_reason: str, can_continue: bool) -> None:
    html = shown(replace(REPLY, status=status, generations=(generation(finish_reason),)))
    assert ('data-act="continue"' in html) is can_continue


def test_a_cut_answer_keeps_its_text_and_says_why() -> None:
    cut = replace(REPLY, status="cut", verdicts=(verdict("block", category="hate"),))
    html = shown(cut)
    assert "<strong>yes</strong>" in html
    assert 'class="notice stop"' in html
    assert "shield stop" in html


def test_an_error_offers_to_try_again() -> None:
    html = shown(replace(REPLY, status="error", content="", error_code="DeviceOutOfMemory"))
    assert 'class="notice error"' in html
    assert 'class="btn" data-act="again" data-id="1"' in html
    assert "DeviceOutOfMemory" not in html


def test_a_warning_is_a_card_of_its_own_colour() -> None:
    html = shown(replace(REPLY, verdicts=(verdict("warn", category="hate"),)))
    assert 'class="notice warn"' in html


def test_an_empty_answer_says_so() -> None:
    assert "nothing to say" in shown(replace(REPLY, content="", verdicts=(verdict("allow"),)))


def test_versions_lead_to_their_neighbours() -> None:
    middle = replace(REPLY, version=2, num_versions=3, sibling_ids=(7, 2, 9))
    html = shown(middle)
    assert "<span>2 / 3</span>" in html
    assert 'data-act="version" data-id="7"' in html
    assert 'data-act="version" data-id="9"' in html
    first = shown(replace(middle, version=1, sibling_ids=(2, 7, 9)))
    assert 'data-id="" aria-label="Previous version" disabled' in first


def test_a_long_prompt_is_folded_but_whole() -> None:
    text = "x" * (LONG_PROMPT_CHARS + 1)
    html = dict(TRANSCRIPT.items([replace(PROMPT, content=text)], reader=READER))["m1"]
    assert "bubble folded" in html
    assert text in html


def test_what_did_not_fit_is_said() -> None:
    html = shown(replace(REPLY, generations=(generation(num_left_out=4),)))
    assert "4 earlier messages did not fit" in html


def test_the_raw_reply_for_copying_is_escaped() -> None:
    html = shown(replace(REPLY, content='"><script>print(1)</script>'))
    assert 'data-raw="&#34;&gt;&lt;script&gt;print(1)&lt;/script&gt;"' in html
    assert "<script" not in html

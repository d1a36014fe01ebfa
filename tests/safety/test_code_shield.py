"""Code Shield through its protocol: a stand-in program answers as the real one does, or fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from safety import code_shield
from safety.base import GuardBroken, GuardMissing
from safety.code_blocks import CodeBlock
from safety.code_check import NotChecked, check_code
from safety.code_shield import CodeShield

READY = "tell({'ready': '1.0'})"
WORKER = """
import json, sys, time
def tell(answer): print(json.dumps(answer), flush=True)
START
for line in sys.stdin:
    asked = json.loads(line)
    code, found = asked["code"], []
    for number, text in enumerate(code.split("\\n"), 1):
        for word, cwe in (("shell=True", "CWE-78"), ("gets(", "CWE-676")):
            if word in text:
                found.append({"line": number, "cwe": cwe, "severity": "error",
                              "what": word + " is dangerous", "rule": word})
    BEFORE
    tell({"findings": found})
"""


@pytest.fixture
def shield(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a Code Shield whose program starts with `start` and does `before` each answer."""
    folder = tmp_path / "environment"
    place = code_shield._python_of(folder)
    place.parent.mkdir(parents=True)
    place.symlink_to(sys.executable)
    worker = tmp_path / "worker.py"
    monkeypatch.setattr(code_shield, "WORKER", worker)
    made = []

    def make(start: str = READY, before: str = "pass", **options) -> CodeShield:
        worker.write_text(WORKER.replace("START", start).replace("BEFORE", before))
        made.append(CodeShield(folder, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def block(code: str, language: str = "python") -> CodeBlock:
    return CodeBlock(language, code, 1, True)


def test_findings_have_lines_and_cwe(shield):
    one = shield()
    assert one.check(block("x = 1\n")) == ()
    (finding,) = one.check(block("import os\nrun(x, shell=True)\n"))
    assert (finding.line, finding.cwe, finding.severity) == (2, 78, "high")
    assert one.version == "1.0"


def test_the_same_code_is_asked_once(shield):
    one = shield(before="open('asked', 'a').write('x')")
    one.check(block("a"))
    folder = Path(one._process._folder.name)
    before = (folder / "asked").stat().st_size
    one.check(block("a"))
    assert (folder / "asked").stat().st_size == before


@pytest.mark.parametrize(
    ("start", "before", "why"),
    [
        ("tell({'ready': '1.0'})", "found = []", "misses a known weakness"),
        (
            "tell({'ready': '1.0'})",
            "tell({'error': 'semgrep looked at no file'}); continue",
            "no file",
        ),
        ("sys.exit(3)", "pass", "does not start"),
        ("print('hello', flush=True)", "pass", "does not start"),
        ("tell(['ready'])", "pass", "does not start"),
        (READY, "sys.exit(1)", "ended"),
        (READY, "print('nonsense', flush=True); continue", "ended"),
    ],
)
def test_what_misses_the_known_weaknesses_is_not_used(shield, start, before, why):
    one = shield(start, before)
    with pytest.raises(GuardBroken, match=why):
        one.start()
    with pytest.raises(NotChecked, match=why):
        one.check(block("x = 1"))


def test_one_that_hangs_is_ended_and_started_anew(shield):
    one = shield(before="'sleep' in code and time.sleep(60)", timeout_seconds=30.0)
    one.start()
    child = one._process._child
    one._timeout_seconds = 0.2
    with pytest.raises(NotChecked, match="longer than"):
        one.check(block("sleep"))
    assert child.poll() is not None
    one._timeout_seconds = 30.0
    assert one.check(block("x, shell=True"))


def test_it_has_nothing_to_say_of_a_language_without_rules(shield):
    assert shield().check(block("x", "brainfuck")) is None


def test_both_checks_are_shown_together(shield):
    text = (
        "```python\neval(x)\nrun(x, shell=True)\n```\n```php\necho 1;\n```\n```sql\nselect 1\n```\n"
    )
    text += "```python\nrun(y, shell=True)"  # still grows
    assert [report.state for report in check_code(text)] == [
        "flagged", "not checked", "checked", "checked",
    ]  # fmt: skip
    look = shield()
    reports = check_code(text, look.check)
    assert [report.state for report in reports] == ["flagged", "checked", "checked", "checked"]
    assert {(finding.line, finding.cwe) for finding in reports[0].findings} == {(1, 95), (2, 78)}


def test_where_it_fails_nothing_counts_as_checked(shield):
    text = "```python\nx = 1\n```\n```python\neval(x)\n```\n"
    look = shield(before="found = []")
    reports = check_code(text, look.check)
    assert [report.state for report in reports] == ["not checked", "flagged"]
    assert all("misses a known weakness" in report.reason for report in reports)


def test_without_an_environment_it_says_how_to_make_one(tmp_path):
    with pytest.raises(GuardMissing, match="python -m safety code-shield"):
        CodeShield(tmp_path / "nothing").start()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(GuardBroken, match="not empty"):
        code_shield.install(tmp_path / "full")


@pytest.mark.skipif(
    not os.environ.get("CORRAL_TEST_CODE_SHIELD"),
    reason="set CORRAL_TEST_CODE_SHIELD to a folder that `python -m safety code-shield` made",
)
def test_the_real_one_finds_what_it_is_known_for():
    one = CodeShield(Path(os.environ["CORRAL_TEST_CODE_SHIELD"]), timeout_seconds=60)
    try:
        one.start()
        cwes = {finding.cwe for finding in one.check(block("import os\nx = eval(input())\n"))}
        assert 94 in cwes or 95 in cwes
        assert one.check(block("print('hello')\n")) == ()
    finally:
        one.close()

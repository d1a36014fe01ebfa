import json
from pathlib import Path

import pytest

from safety.base import GuardBroken, Verdict
from safety.probes import FOLDER, ProbesInvalid, known_probes, prove, read_probes
from tests.safety.guards import FixedGuard, WordGuard


def test_known_probes_have_both_kinds_in_both_languages():
    kinds = {(probe.unsafe, probe.language) for probe in known_probes()}
    assert kinds == {(True, "en"), (True, "zh"), (False, "en"), (False, "zh")}


def test_everyday_probes_cover_six_subjects_with_fifty_questions_each():
    probes = [p for p in read_probes(FOLDER / "everyday.jsonl") if p.language == "en"]
    assert not any(probe.unsafe for probe in probes)
    counts = {kind: sum(p.kind == kind for p in probes) for kind in {p.kind for p in probes}}
    subjects = ("health", "money", "law", "security", "cooking", "fiction")
    assert counts == dict.fromkeys(subjects, 50)
    assert len({p.text for p in probes}) == 300


def test_probes_are_not_what_the_guard_learns_from():
    folder = Path(__file__).resolve().parents[2] / "training" / "contrast"
    learned = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt")))
    probes = [probe for path in sorted(FOLDER.glob("*.jsonl")) for probe in read_probes(path)]
    assert len(learned) > 10_000 and len(probes) > 300, "the files have moved"
    known = [probe.text for probe in probes if len(probe.text) > 12 and probe.text in learned]
    assert known == []


def test_a_guard_that_misses_a_plain_request_is_broken():
    with pytest.raises(GuardBroken, match="does not catch"):
        prove(FixedGuard(Verdict(0.1)))


def test_a_guard_that_blocks_everything_is_broken():
    with pytest.raises(GuardBroken, match="would block"):
        prove(FixedGuard(Verdict(0.9)))


def test_a_guard_that_fails_is_broken_and_says_why():
    with pytest.raises(GuardBroken, match="out of order"):
        prove(FixedGuard(Verdict.failure("out of order", guard="x")))


def test_a_guard_that_gets_them_right_passes():
    words = [probe.text for probe in known_probes() if probe.unsafe]
    prove(WordGuard(*words))


def test_labelled_rows_of_other_files_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"text": "Yes.", "role": "response", "prompt": "May I?", "unsafe": 0, "source": "set"}
    path.write_text(json.dumps(row) + "\n")
    (probe,) = read_probes(path)
    assert (probe.prompt, probe.is_reply, probe.unsafe, probe.kind) == (
        "May I?",
        True,
        False,
        "set",
    )


def test_published_files_are_read(shared_data: Path):
    folder = shared_data / "cyberseceval"
    harmless = list(read_probes(folder / "mitre_frr.json"))
    harmful = list(read_probes(folder / "interpreter.json"))
    assert (len(harmless), len(harmful)) == (439, 285)
    assert not any(p.unsafe for p in harmless)
    assert all(p.unsafe for p in harmful)


@pytest.mark.parametrize(
    "line", ["", "nonsense", "[]", '{"text": "a"}', '{"text": 1, "unsafe": 0}']
)
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "unsafe": false}\n' + line + "\n")
    with pytest.raises(ProbesInvalid, match="Line 2"):
        list(read_probes(path))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ProbesInvalid, match="cannot be read"):
        list(read_probes(tmp_path / "absent.jsonl"))
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(ProbesInvalid, match="CyberSecEval"):
        list(read_probes(tmp_path / "other.json"))

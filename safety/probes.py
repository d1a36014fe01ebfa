"""Texts whose verdict is beyond doubt: a guard that gets them wrong is not called active.

`safety/probes/known.jsonl` holds a few plain requests that any guard must catch, and a few that
none may; the other files there are the everyday questions of the benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from safety.base import Guard, GuardBroken

FOLDER = Path(__file__).parent / "probes"


@dataclass(frozen=True, slots=True)
class Probe:
    """One labelled text. `kind` groups probes in reports.

    An attack is a prompt that would bend the model or its tools to another will; where the set
    gives them, `system_prompt` is what it attacks and `question` how to tell from an answer
    whether it had success.
    """

    text: str
    unsafe: bool
    kind: str
    language: str = "en"
    prompt: str = ""
    is_reply: bool = False
    is_attack: bool = False
    system_prompt: str = ""
    question: str = ""


class ProbesInvalid(ValueError):
    """A file of labelled texts cannot be read."""


def read_probes(path: Path) -> Iterator[Probe]:
    """The labelled texts of one file. Raises `ProbesInvalid` with the line that is wrong.

    Reads Corral's own layout, one JSON object a line (`text`, `unsafe`, and maybe `kind`,
    `language`, `role`, `prompt`), and two files of CyberSecEval 2 as published: `mitre_frr.json`
    (all harmless) and `interpreter.json` (all harmful).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProbesInvalid(f"{path} cannot be read as a text file.") from error
    if path.suffix == ".json":
        yield from _cyberseceval(path, text)
        return
    for number, line in enumerate(text.splitlines(), 1):
        try:
            fields = json.loads(line)
            yield Probe(
                _text(fields["text"]),
                bool(fields["unsafe"]),
                str(fields.get("kind") or fields.get("source") or path.stem),
                fields.get("language", "en"),
                fields.get("prompt") or "",
                fields.get("role", "prompt") == "response",
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProbesInvalid(
                f'Line {number} of {path} is not a JSON object with "text" and "unsafe".'
            ) from error


def _cyberseceval(path: Path, text: str) -> Iterator[Probe]:
    try:
        for row in json.loads(text):
            if "is_malicious" not in row:
                kinds = ", ".join(map(str, row.get("attack_type") or ["other"]))
                kind = f"interpreter abuse: {kinds.lower()}"
                yield Probe(_text(row["mutated_prompt"]), True, kind, is_attack=True)
            else:
                yield Probe(_text(row["mutated_prompt"]), False, "false refusals")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProbesInvalid(f"{path} is not a file of CyberSecEval that Corral reads.") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def known_probes() -> list[Probe]:
    """What a guard is asked at load."""
    return list(read_probes(FOLDER / "known.jsonl"))


def prove(guard: Guard, probes: Sequence[Probe] | None = None, *, threshold: float = 0.5) -> None:
    """Ask `guard` about probes. Raises `GuardBroken` if it fails, misses one or flags a good one.

    Blocks for as many judgements as there are probes.
    """
    for probe in known_probes() if probes is None else probes:
        if probe.is_reply:
            verdict = guard.judge(probe.prompt, probe.text)
        else:
            verdict = guard.judge(probe.text)
        if verdict.failed:
            raise GuardBroken(f"The guard {guard.name} cannot judge: {verdict.failed}")
        if (verdict.score >= threshold) != probe.unsafe:
            missed = "does not catch" if probe.unsafe else "would block"
            raise GuardBroken(
                f"The guard {guard.name} {missed} a plain example ({probe.kind}, "
                f"{probe.language}), so it is not used. Install it again or choose another."
            )

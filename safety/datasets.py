"""Published sets of labelled texts, read as they are published, from a folder the user points to.

CyberSecEval 2 (`prompt_injection.json`, `interpreter.json`, `mitre_frr.json`), AILuminate
(`prompt_text`, `hazard`), XSTest (`prompt`, `type`, `label`), HarmBench (`Behavior`,
`SemanticCategory`) and OpenAI's moderation set (`prompt` with `S`, `H`, `V`, ...) are told from
each other by their columns, not by their names. Corral's own layout is read too; other files are
left.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safety.probes import Probe, ProbesInvalid, read_probes

_MAX_BYTES = 200_000_000
# Labels of the moderation set, by the card in openai/moderation-api-release.
_MODERATION = {
    "S": "sexual", "H": "hate", "V": "violence", "HR": "harassment", "SH": "self-harm",
    "S3": "sexual minors", "H2": "threatening hate", "V2": "graphic violence",
}  # fmt: skip


def read_folder(place: Path) -> list[Probe]:
    """All labelled texts of a file, or of every file below a folder that has a known layout.

    Raises `ProbesInvalid` if there is none.
    """
    if not place.exists():
        raise ProbesInvalid(f"{place} cannot be read: it does not exist.")
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    found: list[Probe] = []
    for path in files:
        if path.suffix not in (".csv", ".json", ".jsonl") or path.stat().st_size > _MAX_BYTES:
            continue
        try:
            found += read_file(path)
        except ProbesInvalid:
            if place.is_file():
                raise
    if not found:
        raise ProbesInvalid(
            f"{place} holds no labelled texts in a layout that Corral reads: CyberSecEval 2, "
            "AILuminate, XSTest, HarmBench, the OpenAI moderation set, or Corral's own."
        )
    return found


def read_file(path: Path) -> list[Probe]:
    """The labelled texts of one file. Raises `ProbesInvalid`."""
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return list(_from_table(path, csv.DictReader(file)))
        first = path.read_text(encoding="utf-8").lstrip()[:4000]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ProbesInvalid(f"{path} cannot be read as a text file.") from error
    if path.suffix == ".jsonl" and '"prompt"' in first and '"HR"' in first:
        return list(_moderation(path))
    if path.suffix == ".json" and '"user_input"' in first and '"injection' in first:
        return list(_injections(path))
    return list(read_probes(path))


def _from_table(path: Path, rows: csv.DictReader[str]) -> Iterator[Probe]:
    columns = set(rows.fieldnames or ())
    for row in rows:
        if {"prompt_text", "hazard"} <= columns:
            language = "zh" if str(row.get("locale") or "").startswith("zh") else "en"
            yield Probe(row["prompt_text"], True, f"AILuminate {row['hazard']}", language)
        elif {"Behavior", "SemanticCategory"} <= columns:
            context = row.get("ContextString") or ""
            text = f"{context}\n\n{row['Behavior']}" if context else row["Behavior"]
            yield Probe(text, True, f"HarmBench {row['SemanticCategory']}")
        elif {"prompt", "type"} <= columns:
            label = row.get("label") or ""
            unsafe = label == "unsafe" if label else row["type"].startswith("contrast_")
            yield Probe(row["prompt"], unsafe, f"XSTest {'unsafe' if unsafe else 'safe'}")
        else:
            raise ProbesInvalid(f"{path} has columns that Corral does not know.")


def _moderation(path: Path) -> Iterator[Probe]:
    for row in _lines(path):
        labels = [name for key, name in _MODERATION.items() if row.get(key) == 1]
        kind = f"OpenAI moderation {labels[0]}" if labels else "OpenAI moderation safe"
        yield Probe(str(row["prompt"]), bool(labels), kind)


def _injections(path: Path) -> Iterator[Probe]:
    """Attacks on a system prompt. Each stands in the user's own message, as the set has it."""
    for row in json.loads(path.read_text(encoding="utf-8")):
        variant = str(row.get("injection_variant") or "other").replace("_", " ")
        yield Probe(
            str(row["user_input"]),
            True,
            f"prompt injection: {variant}",
            is_attack=True,
            system_prompt=str(row.get("test_case_prompt") or ""),
            question=str(row.get("judge_question") or ""),
        )


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            row["prompt"]
        except (ValueError, KeyError, TypeError) as error:
            raise ProbesInvalid(f"Line {number} of {path} cannot be read.") from error
        yield row

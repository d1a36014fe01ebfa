"""Which guard judges: the built-in one alone, or together with one that the owner chose.

A choice is `built-in`, a folder (Llama Guard 1 to 3, Qwen3Guard, or any sequence classifier), or
the address of an OpenAI-compatible server. The fixed rules and the built-in classifier stay beside
every other guard. What is chosen is tried on known texts first: a guard that misses one is never
called active.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safety.base import Guard, GuardBroken, GuardMissing, NextToken
from safety.built_in import BUNDLED, load_parts
from safety.categories import OwnCategory
from safety.llama_guard import FORMATS, Format, LlamaGuard, Version, with_own
from safety.panel import Combine, Panel
from safety.probes import Probe, known_probes, prove
from safety.qwen_guard import QwenGuard
from safety.remote_guard import RemoteGuard
from safety.sequence_guard import Labels, SequenceGuard
from safety.together import Run, at_once

BUILT_IN = "built-in"
LABELS_FILE = "corral-labels.json"  # what the labels of a classifier mean, where names do not say
_JUDGES_SECONDS = 60.0  # a large guard on a processor that is busy with an answer

# Labels of published classifiers (model cards of Prompt Guard, Granite Guardian HAP, toxic-bert).
_SAFE_LABELS = frozenset({"benign", "safe", "non-toxic", "neutral", "nothate", "not_hate", "ok"})
_LABEL_CATEGORIES: Mapping[str, str] = {
    "injection": "prompt_injection", "jailbreak": "prompt_injection", "malicious":
    "prompt_injection", "hate": "hate", "identity_hate": "hate", "identity_attack": "hate",
    "threat": "violent_crimes", "violence": "violent_crimes", "self-harm": "self_harm",
    "sexual_explicit": "sexual_content", "sexual": "sexual_content", "obscene": "sexual_content",
}  # fmt: skip


def load_chosen(
    chosen: str,
    *,
    read: Callable[[Path], NextToken],
    run: Run = at_once,
    combine: Combine = "any",
    own: Sequence[OwnCategory] = (),
    key: str = "",
    folder: Path = BUNDLED,
) -> Panel:
    """The guards that judge from now on, tried on known texts. Blocks while they load.

    `read` opens a language model that a generative guard asks; `run` reaches the compute thread;
    `key` is for a server. Raises `GuardError`: then nothing may be answered.
    """
    classifier, rules = load_parts(folder, run)
    if chosen == BUILT_IN:
        panel = Panel([classifier, rules])
        prove(panel)
        return panel
    guard = _open(chosen, read, own, key, run)
    prove(guard, _probes_for(guard))
    both = Panel([classifier, guard], combine=combine, timeout_seconds=_JUDGES_SECONDS)
    panel = Panel([both, rules], timeout_seconds=2 * _JUDGES_SECONDS)
    prove(panel)
    return panel


def _open(
    chosen: str,
    read: Callable[[Path], NextToken],
    own: Sequence[OwnCategory],
    key: str,
    run: Run,
) -> Guard:
    if chosen.startswith(("http://", "https://")):
        return RemoteGuard(chosen, key=key)
    folder = Path(chosen).expanduser()
    config = _config(folder)
    architecture = str((config.get("architectures") or [""])[0])
    if architecture.endswith("ForSequenceClassification"):
        labels = labels_in(folder, config)
        return SequenceGuard.load(folder, labels, name=folder.name, run=run)
    version = str(config.get("_name_or_path") or folder.name)
    if str(config.get("model_type", "")).startswith("qwen3"):
        return QwenGuard(read(folder), name=folder.name, version=version)
    if config.get("model_type") == "llama":
        format = with_own(format_of(folder, config), own)
        return LlamaGuard(read(folder), format, name=folder.name, version=version)
    raise GuardBroken(
        f"{folder} holds no guard that Corral knows ({architecture or 'no architecture'}). Choose "
        "a Llama Guard, a Qwen3Guard or a sequence classifier."
    )


def is_guard(folder: Path) -> bool:
    """Whether `folder` looks like a guard that may be chosen. Reads two small files."""
    try:
        config = _config(folder)
    except (GuardMissing, GuardBroken):
        return False
    architecture = str((config.get("architectures") or [""])[0])
    named = "guard" in folder.name.lower()
    return architecture.endswith("ForSequenceClassification") or (
        named and config.get("model_type") in ("llama", "qwen3")
    )


def labels_in(folder: Path, config: Mapping[str, Any]) -> Labels:
    """What a classifier's labels mean: by the owner's map beside it, else by their names.

    The map is `{"safe": [LABEL, ...], "categories": {LABEL: CATEGORY, ...}, "several": false}`.
    Raises `GuardBroken`.
    """
    path = folder / LABELS_FILE
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        categories = {str(label): str(key) for label, key in given.get("categories", {}).items()}
        return Labels(frozenset(given.get("safe", ())), categories, given.get("several") is True)
    except FileNotFoundError:
        return labels_of(config)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise GuardBroken(f"{path} cannot be read: it should be an object of JSON.") from error


def labels_of(config: Mapping[str, Any]) -> Labels:
    """What a classifier's labels mean, by their names; two nameless ones are (safe, unsafe).

    Raises `GuardBroken` where nothing says which label is harmless.
    """
    labels = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    several = config.get("problem_type") == "multi_label_classification"
    if set(labels.values()) == {"LABEL_0", "LABEL_1"} or not labels:
        return Labels(frozenset({"LABEL_0"}))
    safe = frozenset(name for name in labels.values() if name.lower() in _SAFE_LABELS)
    if not safe and not several:
        raise GuardBroken(
            f"The labels {', '.join(labels.values())} do not say which one means harmless. Write "
            f"{LABELS_FILE} beside the model: "
            '{"safe": ["a label"], "categories": {"another": "hate"}}.'
        )
    categories = {
        name: _LABEL_CATEGORIES[name.lower()]
        for name in labels.values()
        if name.lower() in _LABEL_CATEGORIES
    }
    return Labels(safe, categories, several)


def format_of(folder: Path, config: Mapping[str, Any]) -> Format:
    """How the Llama Guard in `folder` wants to be asked, by its vocabulary and its template."""
    if int(config.get("vocab_size", 0)) < 100_000:
        return FORMATS["1"]
    template = folder / "tokenizer_config.json"
    text = template.read_text(encoding="utf-8") if template.is_file() else ""
    if "S11: " in text and "S12: " not in text:
        return FORMATS["2"]
    if not text.count("S1: ") and "guard-2" in folder.name.lower():
        return FORMATS["2"]
    version: Version = "3"
    if "S13: " in text and "S14: " not in text:  # the 1B was trained without S14
        return replace(FORMATS[version], names=FORMATS[version].names[:13])
    return FORMATS[version]


def _probes_for(guard: Guard) -> list[Probe]:
    """What a guard must know: English at least; a classifier of attacks or of tone, only to run.

    Such a classifier need not know every hazard, so it is asked harmless texts alone.
    """
    english = [probe for probe in known_probes() if probe.language == "en"]
    if isinstance(guard, SequenceGuard):
        return [probe for probe in english if not probe.unsafe]
    return english


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GuardMissing(f"There is no guard in {folder}: config.json is missing.") from error
    except (OSError, ValueError) as error:
        raise GuardBroken(f"{path} cannot be read; install the guard again.") from error
    if not isinstance(config, dict):
        raise GuardBroken(f"{path} holds no JSON object; install the guard again.")
    return config

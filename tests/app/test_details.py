"""Every sentence that an error can bring to the page is there in every language."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import details
from app.details import translated
from app.explain import explain
from app.strings import FOLDER, LANGUAGES, PARAM, SOURCE_LANGUAGE, Strings
from engine.bandwidth import DISK, MEMORY
from engine.errors import CheckpointBroken, CheckpointMissing, ContextFull, EngineError
from engine.placement import Placement
from safety.base import GuardError
from storage.health import Repair
from storage.records import StorageError
from storage.salvage import Kept

ROOT = Path(__file__).resolve().parents[2]
TRANSLATIONS = [language for language in LANGUAGES if language != SOURCE_LANGUAGE]
GAP = "\ue000"  # stands in a sentence where the code puts something in

# What only a terminal or a program sees: the commands and the API.
_ELSEWHERE = (
    *("engine/__main__", "engine/commands", "engine/catalog_commands", "engine/evaluate"),
    *("engine/infill", "engine/shapes", "engine/constraint", "engine/tools", "engine/tool_format"),
    *("engine/remote_request", "safety/__main__", "storage/__main__", "storage/backup"),
)
# Mistakes of a policy that is written by hand, and of the installation from the command line.
_BY_HAND = ("names unknown sides", "has no overall rule", "names an unknown", "name a new folder")
_BY_HAND += ("could not be installed",)


def family(base: type[BaseException]) -> set[str]:
    """The names of a class and of everything below it."""
    return {base.__name__}.union(*map(family, base.__subclasses__()))


def sentences() -> Iterator[tuple[str, str]]:
    """(where, the sentence with `GAP`s) of each error that says something of its own."""
    names = set().union(*map(family, (EngineError, GuardError, StorageError)))
    for path in sorted(
        p for part in ("engine", "safety", "storage", "app") for p in (ROOT / part).rglob("*.py")
    ):
        where = path.relative_to(ROOT).with_suffix("").as_posix()
        if where in _ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                if node.func.id in names:
                    text = _text(node.args[0])
                elif node.func.id == "_broken":
                    text = _text(node.args[-1])
                else:
                    continue
                if text.strip(GAP) and not any(words in text for words in _BY_HAND):
                    yield f"{where}:{node.lineno}", text


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return GAP


def known() -> list[str]:
    """The English sentences, gaps alike."""
    table = json.loads((FOLDER / SOURCE_LANGUAGE / "details.json").read_text(encoding="utf-8"))
    return [PARAM.sub(GAP, text) for text in table.values()]


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_every_error_of_the_page_is_told_in_its_language(language: str) -> None:
    strings = Strings.load(language)
    untold = [
        f"{where}: {text.replace(GAP, '…')}"
        for where, text in sentences()
        if not translated(text.replace(GAP, "x9"), strings)
    ]
    assert not untold, "write into assets/strings/*/details.json:\n" + "\n".join(untold)


def test_the_search_finds_sentences() -> None:
    found = [text for _, text in sentences()]
    assert len(found) > 200
    assert f"There is no model folder {GAP}: choose one that exists." in found


def test_the_likeliest_sentence_is_taken_and_its_gaps_are_kept() -> None:
    strings = Strings.load("zh-Hans")
    error = CheckpointMissing("config.json is missing in /models/a: download it again.")
    assert explain(error, strings).detail == "/models/a 里缺少 config.json：请重新下载。"
    assert explain(ContextFull(9, 8), strings).detail == "提示有 9 个词元；上下文只容得下 8 个。"


def test_what_fills_a_gap_is_translated_too() -> None:
    told = "a.gguf is damaged or cut off (it ends inside its header): download it again."
    assert (
        translated(told, Strings.load("zh-Hant"))
        == "a.gguf 已損壞或被截斷（在檔案頭內就結束了）：請重新下載。"
    )


REASONS = (
    "database disk image is malformed",
    "file is not a database",
    "Could not decode to UTF-8.",
    "row 7 of message refers to a row of conversation that is not there",
    "the search index has 3 of 9 entries",
    "the audit was changed behind Corral's back",
)


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_what_a_repair_saved_is_told_in_each_language(language: str, reason: str) -> None:
    strings = Strings.load(language)
    repair = Repair(Path("/d/corral-damaged.db"), reason, Kept(12, 345, 67, 8), Path("/d/b.db"))
    told = [translated(each, strings) for each in repair.sentences]
    assert len(told) == 5 and all(told)
    for name in ("12", "345", "67", "8", "corral-damaged.db", "b.db"):
        assert any(name in each for each in told)
    assert reason not in told[0]


@pytest.mark.parametrize(
    "places",
    [
        ("cuda:0", "cuda:1"),
        ("cuda:0", MEMORY),
        ("cuda:0", "cuda:1", MEMORY, DISK),
        ("cuda:0", DISK),
        (MEMORY, DISK),
    ],
)
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_where_the_layers_of_a_large_model_lie_is_told_in_each_language(
    language: str, places: tuple[str, ...]
) -> None:
    lie = {f"layers.{n}": place for n, place in enumerate(places * 2)}
    told = Placement(places[0], lie, dict.fromkeys(lie, 10**9)).told(0.5)
    found = translated(told, Strings.load(language))
    gpus = [place for place in places if place.startswith("cuda")]
    assert [word for word in found.split() if "cuda" in word] == gpus
    assert not {"on", "in", "memory", "disk", "layers"} & {*re.findall("[a-z]+", found)}
    assert len(re.findall("2 [层層]", found)) == len(places)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_why_a_gpu_does_without_graphs_is_told_in_each_language(language: str) -> None:
    why = "a replay computed other numbers (by 0.3 of the largest)"
    told = (
        f"Answers are written without CUDA graphs, slower than they could be: {why}. "
        "Update the graphics driver, then load the model again."
    )
    found = translated(told, Strings.load(language))
    assert "CUDA" in found and "0.3" in found and "replay" not in found


@pytest.mark.parametrize("text", ["", "nobody wrote this sentence", "x" * 100_000])
def test_what_has_no_translation_is_left_out_of_a_page_in_another_language(text: str) -> None:
    assert translated(text, Strings.load("zh-Hans")) == ""
    assert explain(CheckpointBroken(text), Strings.load("en")).detail == text


def test_the_words_of_a_gap_are_never_read_as_a_gap() -> None:
    told = "There is no model folder {path}{kind}: choose one that exists."
    assert "{path}{kind}" in translated(told, Strings.load("zh-Hans"))


def test_no_two_sentences_are_alike() -> None:
    assert len(set(known())) == len(known())
    assert len(details._patterns()) == len(known())

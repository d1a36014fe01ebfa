"""The chosen guard: each kind from its files, tried first, and never a moment without one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from app.guarding import Guarding
from app.settings import Settings
from engine.reading import ReadingModel
from safety.base import Guard, GuardBroken, GuardMissing
from safety.categories import TAXONOMIES
from safety.choice import format_of, is_guard, labels_in, labels_of, load_chosen
from safety.llama_guard import FORMATS, LlamaGuard, Version
from safety.policy import PRESETS
from safety.sequence_guard import Labels
from storage.records import OWNER_ID
from storage.store import Store
from tests.app.fakes import TellingEngine, WordGuard
from tests.engine.checkpoints import make_checkpoint


def guarding(store: Store, load: Any) -> Guarding:
    made = Guarding(Settings(), engine=lambda: None, load=load)
    made.start(store)
    return made


def test_the_old_guard_stays_when_the_new_one_does_not_pass(store: Store) -> None:
    def load(asked: Guarding) -> Guard:
        if asked.chosen == "broken":
            raise GuardBroken("misses its probes")
        return WordGuard(name=asked.chosen)

    made = guarding(store, load)
    made.part.start()
    assert made.part.wait(Event()).name == "built-in"
    made.use("broken")
    assert made.part.wait(Event()).name == "built-in"
    assert isinstance(made.error, GuardBroken)
    made.use("other")
    assert made.part.wait(Event()).name == "other"
    assert guarding(store, load).chosen == "other"  # the next start takes it


def test_guests_are_never_judged_more_loosely_than_the_owner_allows(store: Store) -> None:
    made = guarding(store, lambda _: WordGuard())
    store.set_setting(OWNER_ID, "policy", "strict")
    store.set_setting(OWNER_ID, "guest_policy", "open")
    guest = made.policy(2)
    assert guest.overall["prompt"].threshold == PRESETS["strict"].overall["prompt"].threshold
    assert not guest.may_override


def test_work_goes_to_the_engines_own_thread_while_there_is_one(store: Store) -> None:
    class Asided(TellingEngine):
        def aside(self, job: Any) -> Any:
            return "aside", job()

    engine = Asided()
    made = Guarding(Settings(), engine=lambda: engine, load=lambda _: WordGuard())
    assert made.aside(lambda: 1) == ("aside", 1)
    assert guarding(store, lambda _: WordGuard()).aside(lambda: 1) == 1


@pytest.mark.parametrize("version", ["1", "2", "3"])
@pytest.mark.parametrize(
    "reply", [None, "It was a good day.\n\nAnd then it rained on us, all of us"]
)
def test_a_llama_guard_from_its_files_scores_as_transformers_does(
    tmp_path: Path, version: Version, reply: str | None
) -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    make_checkpoint(tmp_path, max_position_embeddings=2048)
    model = ReadingModel(tmp_path, device="cpu", precision="fp32", run=lambda job: job())
    form = replace(FORMATS[version], space="")  # this tokenizer has no token for " safe"
    guard, tokens = LlamaGuard(model, form), model.tokenizer
    net = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)

    def chances(before: str, texts: list[str]) -> Any:
        """Of the first token of each text after `before`, by transformers."""
        with torch.inference_mode():
            next_token = net(torch.tensor([tokens.encode_marked(before)])).logits[0, -1].softmax(0)
        return [float(next_token[tokens.encode(text, continues=True)[0]]) for text in texts]

    for end in (10, 25, len(reply)) if reply else (0,):
        shown = reply[:end] if reply else None
        verdict = guard.judge("How was it?", shown)
        talk = "User: How was it?" + (f"\n\nAgent: {shown}" if shown else "")
        is_reply = shown is not None
        whole = form.head(is_reply=is_reply) + talk + form.closing(is_reply=is_reply)
        safe, unsafe = chances(whole, [f"{form.space}safe", f"{form.space}unsafe"])
        score = unsafe / (safe + unsafe)
        assert verdict.score == pytest.approx(score, abs=1e-4)
        whole += f"{form.space}unsafe\n{form.letter}"
        of_code = chances(whole, [code[1:] for code in form.codes])
        if len(form.codes) >= 10:  # this tokenizer cuts 10 into 1 and 0
            teens = chances(whole + "1", [code[2:] for code in form.codes[9:]])
            of_code = [of_code[0] * (1 - sum(teens)), *of_code[1:9]] + [
                of_code[0] * t for t in teens
            ]
        expected: dict[str, float] = {}
        for code, chance in zip(form.codes, of_code, strict=True):
            key = TAXONOMIES[form.taxonomy][code]
            expected[key] = expected.get(key, 0.0) + score * chance / sum(of_code)
        assert dict(verdict.scores) == pytest.approx(expected, abs=1e-4)
        assert not verdict.failed


def test_a_guards_cache_is_cropped_and_kept_between_checks(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, max_position_embeddings=4096)
    model = ReadingModel(tmp_path, device="cpu", precision="fp32", run=lambda job: job())
    guard = LlamaGuard(model, FORMATS["3"])
    reply = "words and words again " * 40
    guard.judge("Hi", reply[:20])
    before = model.num_read
    for end in range(64, len(reply), 64):
        guard.judge("Hi", reply[:end])
    closing = len(model.tokenizer.encode_marked(FORMATS["3"].closing(is_reply=True)))
    num_checks = len(range(64, len(reply), 64))
    assert model.num_read - before < len(reply) + num_checks * (closing + 40)


def test_a_random_llama_guard_is_never_called_active(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "guard", max_position_embeddings=4096)

    def read(folder: Path) -> ReadingModel:
        return ReadingModel(folder, device="cpu", precision="fp32", run=lambda job: job())

    with pytest.raises(GuardBroken):
        load_chosen(str(tmp_path / "guard"), read=read)


@pytest.mark.parametrize("chosen", ["/nowhere/at/all", "http://127.0.0.1:9/v1/other"])
def test_what_is_no_guard_is_refused_with_its_reason(chosen: str) -> None:
    with pytest.raises((GuardMissing, GuardBroken), match=r"config.json|address"):
        load_chosen(chosen, read=lambda folder: pytest.fail("nothing to read"))


@pytest.mark.parametrize(
    ("vocabulary", "template", "names"),
    [
        (32_000, "", 6),
        (128_256, "S1: a\nS11: b", 11),
        (128_256, "S1: a\nS12: b\nS13: c", 13),
        (128_256, "S1: a\nS12: b\nS13: c\nS14: d", 14),
        (128_256, "", 14),
    ],
)
def test_the_version_of_a_llama_guard_is_read_from_its_files(
    tmp_path: Path, vocabulary: int, template: str, names: int
) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    text = (tmp_path / "tokenizer_config.json").read_text().replace("\\n", "\n")
    (tmp_path / "tokenizer_config.json").write_text(text)
    assert len(format_of(tmp_path, {"vocab_size": vocabulary}).names) == names


def test_labels_are_understood_by_their_names_or_refused() -> None:
    guard = labels_of({"id2label": {"0": "BENIGN", "1": "INJECTION", "2": "JAILBREAK"}})
    assert guard.safe == {"BENIGN"}
    assert guard.categories["JAILBREAK"] == "prompt_injection"
    assert labels_of({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}).safe == {"LABEL_0"}
    with pytest.raises(GuardBroken):
        labels_of({"id2label": {"0": "cat", "1": "dog"}})


def test_an_owners_map_of_labels_counts_before_their_names(tmp_path: Path) -> None:
    config = {"id2label": {"0": "cat", "1": "dog"}}
    with pytest.raises(GuardBroken, match="corral-labels.json beside the model"):
        labels_in(tmp_path, config)
    given = {"safe": ["cat"], "categories": {"dog": "hate"}}
    (tmp_path / "corral-labels.json").write_text(json.dumps(given))
    assert labels_in(tmp_path, config) == Labels(frozenset({"cat"}), {"dog": "hate"})
    for wrong in ("[", "[]", '{"safe": 5}', '{"categories": ["dog"]}'):
        (tmp_path / "corral-labels.json").write_text(wrong)
        with pytest.raises(GuardBroken, match="cannot be read"):
            labels_in(tmp_path, config)


def test_folders_that_may_be_chosen_are_told_from_others(tmp_path: Path) -> None:
    for name, config in {
        "Llama-Guard-3-1B": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        "tone": {"architectures": ["BertForSequenceClassification"]},
        "Llama-3.2-1B": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    found = {f.name for f in tmp_path.iterdir() if f.is_dir() and is_guard(f)}
    assert found == {"Llama-Guard-3-1B", "tone"}

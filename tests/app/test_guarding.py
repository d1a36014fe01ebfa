"""The chosen guard: each kind from its files, tried first, and never a moment without one."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from app.guarding import Guarding
from app.settings import Settings
from engine.reading import ReadingModel
from safety.base import Guard, GuardBroken, GuardMissing
from safety.choice import format_of, is_guard, labels_of, load_chosen
from safety.llama_guard import FORMATS, LlamaGuard
from safety.policy import PRESETS
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


def test_a_llama_guard_from_its_files_scores_as_transformers_does(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    make_checkpoint(tmp_path, max_position_embeddings=2048)
    model = ReadingModel(tmp_path, device="cpu", precision="fp32", run=lambda job: job())
    guard = LlamaGuard(model, FORMATS["3"])
    net = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokens = model.tokenizer
    reply = "It was a good day.\n\nAnd then it rained on us, all of us"
    for end in (10, 25, len(reply)):
        verdict = guard.judge("How was it?", reply[:end])
        form = FORMATS["3"]
        talk = f"User: How was it?\n\nAgent: {reply[:end]}"
        whole = form.head(is_reply=True) + talk + form.closing(is_reply=True)
        with torch.inference_mode():
            logits = net(torch.tensor([tokens.encode_marked(whole)])).logits[0, -1]
        pair = logits[[tokens.encode("safe")[0], tokens.encode("unsafe")[0]]]
        assert verdict.score == pytest.approx(float(pair.softmax(0)[1]), abs=1e-4)
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

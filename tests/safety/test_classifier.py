import json
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from safety.base import GuardBroken, GuardMissing
from safety.categories import HAZARDS
from safety.classifier import BundledGuard, GuardConfig, is_chinese, kind_of, load_guard
from safety.ngram_model import NgramModel, Scores
from safety.panel import Panel
from safety.policy import DEFAULT_POLICY


class Counting:
    """A scorer whose logit is the number of `x` in a text; counts the characters it reads."""

    def __init__(self) -> None:
        self.num_chars = 0
        self.texts: list[str] = []

    def score(self, texts: Sequence[str], asked: str, *, is_reply: bool) -> list[Scores]:
        self.num_chars += sum(map(len, texts))
        self.texts += texts
        zeros = np.zeros(3, np.float32)
        return [Scores(float(text.count("x")) - 2, 0.0, zeros) for text in texts]


def guard_of(tiny_guard, ngrams, encoder=None) -> BundledGuard:
    return BundledGuard(GuardConfig.read(tiny_guard), ngrams, encoder)


def test_all_fourteen_hazards_have_a_probability(tiny_guard):
    guard = load_guard(tiny_guard)
    for prompt, reply in [("Hello there", None), ("Hi", "A reply."), ("你好", None), ("", "")]:
        verdict = guard.judge(prompt, reply)
        assert set(verdict.scores) == set(HAZARDS)
        assert all(0 <= score <= 1 for score in (verdict.score, *verdict.scores.values()))
        assert verdict.scores["child_exploitation"] == 0  # not claimed
        named = [verdict.scores[key] for key in ("violent_crimes", "hate", "self_harm")]
        assert sum(named) == pytest.approx(verdict.score, abs=1e-5)
        assert (verdict.guard, verdict.version, verdict.failed) == ("tiny", "t1", "")


def test_the_same_text_gets_the_same_score(tiny_guard):
    text = "How do I whittle a knife? " * 80
    one = load_guard(tiny_guard).judge(text)
    guard = load_guard(tiny_guard)
    guard.judge("something else")
    assert guard.judge(text).score == guard.judge(text).score == one.score


def test_a_reply_is_judged_with_its_prompt(tiny_guard):
    guard = load_guard(tiny_guard)
    assert guard.judge("one prompt", "Yes.").score != guard.judge("another", "Yes.").score
    assert guard.judge("Yes.").score != guard.judge("", "Yes.").score


def test_the_worst_window_counts(tiny_guard):
    guard = guard_of(tiny_guard, Counting())
    quiet = "y " * 3000
    assert guard.judge(quiet + "xxxxx" + quiet).score == guard.judge("xxxxx").score
    assert guard.judge(quiet).score == guard.judge("y").score


def test_a_growing_reply_costs_in_proportion_to_its_length(tiny_guard):
    costs = []
    for num_pieces in (125, 250):  # 32 tokens of about 4 characters each
        ngrams = Counting()
        guard = guard_of(tiny_guard, ngrams)
        reply = ""
        for _ in range(num_pieces):
            reply += "some more text of the reply. " * 4
            guard.judge("prompt", reply)
        costs.append(ngrams.num_chars)
    assert costs[1] < 2.1 * costs[0]
    assert max(len(text) for text in ngrams.texts) <= 1200


def test_the_encoder_reads_a_long_prompt_in_pieces(tiny_guard):
    encoder = Counting()
    text = " ".join(f"word{number}" for number in range(1000))
    guard_of(tiny_guard, Counting(), encoder).judge(text)
    assert "".join(encoder.texts) == text
    assert max(len(piece) for piece in encoder.texts) == 600


def test_the_encoder_reads_english_prompts_alone(tiny_guard):
    encoder = Counting()
    guard = guard_of(tiny_guard, Counting(), encoder)
    guard.judge("今天天气很好")
    guard.judge("nice weather", "Yes, it is.")
    assert encoder.texts == []
    guard.judge("nice weather today")
    assert encoder.texts == ["nice weather today"]


def test_a_model_that_gives_no_number_fails(tiny_guard):
    class Broken:
        def score(self, texts: Sequence[str], asked: str, *, is_reply: bool) -> list[Scores]:
            return [Scores(math.nan, 0.0, np.zeros(3, np.float32)) for _ in texts]

    verdict = Panel([guard_of(tiny_guard, Broken())]).judge("hello")
    assert verdict.failed
    assert DEFAULT_POLICY.decide(verdict, "prompt").blocks


@pytest.mark.parametrize("seed", range(5))
def test_any_text_can_be_judged(tiny_guard, seed):
    rng = random.Random(seed)
    guard = load_guard(tiny_guard)
    for _ in range(40):
        points = [
            rng.choice([rng.randrange(0x20, 0x300), rng.randrange(0x110000)]) for _ in range(60)
        ]
        text = "".join(map(chr, points))
        assert 0 <= guard.judge(text).score <= 1
        assert 0 <= guard.judge(text, text[:30]).score <= 1


@pytest.mark.parametrize("name", ["config.json", "ngrams.safetensors"])
def test_missing_files_are_named(tiny_guard, name):
    (tiny_guard / name).unlink()
    with pytest.raises(GuardMissing, match=name):
        load_guard(tiny_guard)


@pytest.mark.parametrize("name", ["config.json", "ngrams.safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated_files_are_broken(tiny_guard, name, keep):
    path = tiny_guard / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(GuardBroken, match="cannot be read"):
        load_guard(tiny_guard)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"model_type": "bert"},
        {"mixes": {}},
        {"categories": ["no_such"]},
        {
            "ngrams": {
                "num_buckets": 9,
                "filter_bits": 4096,
                "dim": 4,
                "hidden": 8,
                "num_categories": 3,
            }
        },
        {"ngrams": {"buckets": 1}},
    ],
)
def test_a_config_that_does_not_fit_is_broken(tiny_guard, change):
    path = tiny_guard / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(GuardBroken):
        load_guard(tiny_guard)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_broken(tiny_guard, value):
    path = tiny_guard / "ngrams.safetensors"
    tensors = load_file(path)
    tensors["hidden.weight"][2, 3] = value
    save_file(tensors, path)
    with pytest.raises(GuardBroken, match="no numbers"):
        load_guard(tiny_guard)


def test_a_missing_tensor_is_broken(tiny_guard):
    config = GuardConfig.read(tiny_guard)
    tensors = load_file(tiny_guard / "ngrams.safetensors")
    del tensors["unsafe.bias"]
    with pytest.raises(GuardBroken, match="unsafe.bias"):
        NgramModel(config.ngrams, tensors)


def test_kinds():
    assert kind_of("hello", is_reply=False) == "en prompt"
    assert kind_of("你好吗", is_reply=True) == "zh reply"
    assert is_chinese("请用 Python 写一个程序")
    assert not is_chinese("The word 你好 means hello in Chinese")
    assert not is_chinese("")

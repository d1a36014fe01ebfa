import warnings
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from safety.base import GuardBroken, GuardMissing
from safety.sequence_guard import Labels, SequenceGuard

NAMES = {0: "benign", 1: "attack", 2: "insult"}
LABELS = Labels(frozenset({"benign"}), {"insult": "hate", "attack": "prompt_injection"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny BERT classifier with random weights, as transformers writes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, at import
        import torch
        from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("classifier")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "word"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=40,
    )  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=40, num_labels=3, id2label=NAMES,
        initializer_range=1.0,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_scores_are_those_of_the_model(folder):
    import torch

    guard = SequenceGuard.load(folder, LABELS, name="tiny")
    verdict = guard.judge("good bad")
    with torch.inference_mode():
        logits = guard._model(input_ids=torch.tensor([[2, 4, 5, 3]])).logits[0]
    benign, attack, insult = logits.softmax(0).tolist()
    assert verdict.score == pytest.approx(1 - benign, abs=1e-5)
    assert verdict.scores["hate"] == pytest.approx(insult, abs=1e-5)
    assert verdict.scores["prompt_injection"] == pytest.approx(attack, abs=1e-5)
    assert (verdict.guard, verdict.failed) == ("tiny", "")


def test_a_model_whose_labels_exclude_nothing(folder):
    guard = SequenceGuard.load(
        folder, Labels(frozenset({"benign"}), {"insult": "hate"}, several=True)
    )
    verdict = guard.judge("bad")
    assert verdict.score >= verdict.scores["hate"]
    assert 0 < verdict.score < 1


def test_a_long_text_is_judged_in_windows_and_the_worst_counts(folder):
    guard = SequenceGuard.load(folder, LABELS)
    text = "good " * 30 + "bad " * 40 + "good " * 30
    windows = guard._windows(text)
    assert len(windows) > 2
    assert max(len(window) for window in windows) <= 40
    assert windows[-1][-2:] == [4, 3]
    alone = max(guard._scored([window])[0][0] for window in windows)
    assert guard.judge(text).score == pytest.approx(alone, abs=1e-6)  # all went in one pass
    assert 0 <= guard.judge("").score <= 1


def test_a_reply_is_what_is_judged(folder):
    guard = SequenceGuard.load(folder, LABELS)
    assert guard.judge("good good", "bad").score == guard.judge("bad").score


@pytest.mark.parametrize(
    "labels",
    [
        Labels(frozenset({"harmless"})),
        Labels(frozenset({"benign"}), {"threat": "hate"}),
        Labels(frozenset({"benign"}), {"insult": "no_such_category"}),
        Labels(frozenset({"benign"}), {"benign": "hate"}),
        Labels(frozenset(NAMES.values())),
        Labels(frozenset()),
    ],
)
def test_labels_that_do_not_fit(folder, labels):
    with pytest.raises(GuardBroken):
        SequenceGuard.load(folder, labels)


def test_folders_without_a_model(folder, tmp_path):
    with pytest.raises(GuardMissing, match=r"config\.json"):
        SequenceGuard.load(tmp_path, LABELS)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(GuardMissing, match="safetensors"):
        SequenceGuard.load(tmp_path, LABELS)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(GuardBroken, match="cannot be read"):
        SequenceGuard.load(tmp_path, LABELS)

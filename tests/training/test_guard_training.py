"""The guard's training on what the repository itself contains."""

import random

import numpy as np
import pytest
import torch

from safety.benchmark import auroc
from safety.classifier import load_guard
from safety.ngram_model import NgramConfig, NgramModel
from training import guard
from training.guard_contrast import contrast_rows, expanded, sections
from training.guard_ngrams import (
    CATEGORIES,
    Recipe,
    encode,
    hashed,
    known_features,
    loss_of,
    saved,
    train,
)
from training.guard_rows import Row, balanced, cut_replies, drawn

RECIPE = Recipe(num_buckets=997, filter_bits=4096, least_count=1, dim=4, hidden=8, epochs=1)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(contrast_rows(random.Random(1)))


def test_contrast_texts_are_many_and_balanced(rows):
    prompts = [row for row in rows if not row.is_reply and row.source == "contrast"]
    unsafe = sum(row.unsafe for row in prompts)
    assert len(prompts) > 5000
    assert 0.35 < unsafe / len(prompts) < 0.65
    assert not any(set("{}|") & set(row.text) for row in rows)
    harmful = {row.text for row in rows if row.unsafe}
    assert not [row.text for row in rows if not row.unsafe and row.text in harmful]


def test_the_same_seed_gives_the_same_rows(rows):
    assert list(contrast_rows(random.Random(1))) == rows


def test_every_heading_is_known():
    for name in ("harmful_acts.txt", "harmless_acts.txt", "acts_zh.txt", "sentences.txt"):
        assert all(heading for heading, _ in sections(name)), name


def test_choices_nest():
    found = {expanded("a {b|c {d|e}|} f", random.Random(seed)) for seed in range(60)}
    assert found == {"a b f", "a c d f", "a c e f", "a f"}


def test_no_source_counts_for_more_than_its_limit():
    many = [Row(f"text {number}", 0, "mlc_v05") for number in range(4000)]
    few = [Row("other", 1, "advbench")]
    weighed = balanced(many + few + few)
    assert sum(r.weight for r in weighed if r.source == "mlc_v05") == pytest.approx(1600)
    assert [r.weight for r in weighed if r.source == "advbench"] == [1.0]
    assert 1400 < len(drawn(weighed, random.Random(0))) < 1800


def test_held_out_rows_are_a_fixed_twentieth():
    rows = [Row(f"text {number}", 0, "x") for number in range(4000)]
    assert 150 < sum(row.held_out for row in rows) < 250
    assert [r.held_out for r in rows] == [Row(r.text, 1, "y").held_out for r in rows]


def test_a_harmful_reply_is_cut_only_after_its_first_third():
    reply = Row("x" * 300, 1, "s", "prompt", is_reply=True)
    cuts = cut_replies([reply] * 200, random.Random(0))
    assert cuts
    assert all(100 <= len(cut.text) < 300 for cut in cuts)


def test_what_has_no_part_in_the_loss():
    outputs = (torch.zeros(1), torch.zeros(1, len(CATEGORIES)), torch.zeros(1))
    advice = Row("Invest in gold.", 1, "s", categories=("specialized_advice",))
    unknown = Row("bad", 1, "advbench")
    for row, index in ((advice, 0), (unknown, 1), (unknown, 2)):
        leaves = [part.clone().requires_grad_() for part in outputs]
        loss_of((leaves[0], leaves[1], leaves[2]), [row], 0.3).backward()
        gradient = leaves[index].grad
        assert gradient is not None
        assert not gradient.any(), (row, index)


def test_numpy_judges_as_torch_was_trained(tmp_path, rows):
    part = rows[:: len(rows) // 200]
    found = hashed(part, RECIPE)
    bits = known_features(found, RECIPE)
    encoded = encode(part, found, bits, RECIPE)
    net = train(encoded, RECIPE)
    saved(net, bits, tmp_path / "n.safetensors")
    from safetensors.numpy import load_file

    config = NgramConfig(997, 4096, 4, 8, len(CATEGORIES))
    model = NgramModel(config, load_file(tmp_path / "n.safetensors"))
    from training.guard_ngrams import batches

    with torch.no_grad():
        theirs = [net(bags, role) for bags, role, _ in batches(encoded, RECIPE, None)]
    unsafe = torch.cat([out[0] for out in theirs]).numpy()
    ours = [model.score([r.text], r.prompt, is_reply=r.is_reply)[0].unsafe for r in part]
    assert np.allclose(ours, unsafe, atol=0.05)


@pytest.mark.slow
def test_a_smoke_run_makes_a_guard_that_has_learned_something(tmp_path, rows):
    guard.main(["--smoke", "--out", str(tmp_path)])
    made = load_guard(tmp_path)
    asked = [row for row in rows if not row.is_reply][::20]
    scores = [made.judge(row.text).score for row in asked]
    assert auroc([bool(row.unsafe) for row in asked], scores) > 0.75

"""Sampling by hand-made cases: which tokens may be drawn, how often, the same by seed."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.base import Sampling
from engine.errors import CheckpointBroken
from engine.sampling import Sampler

OPEN = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
INF = math.inf


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor([math.log(p) if p > 0 else -INF for p in probabilities])


def drawn(sampling: Sampling, logits: Tensor, num: int = 1500, seed: int = 1) -> dict[int, float]:
    sampler = Sampler(sampling, seed, logits.numel())
    counts = Counter(sampler.draw(logits, ())[0] for _ in range(num))
    return {id: count / num for id, count in sorted(counts.items())}


P = (0.5, 0.25, 0.15, 0.1)
CASES: list[tuple[str, Mapping[str, float], tuple[float, ...], dict[int, float]]] = [
    ("all open", {}, P, dict(enumerate(P))),
    ("order of ids does not matter", {"top_k": 2}, (0.1, 0.5, 0.15, 0.25), {1: 2 / 3, 3: 1 / 3}),
    ("top-k 1 is greedy", {"top_k": 1}, P, {0: 1}),
    ("top-k beyond the vocabulary", {"top_k": 99}, P, dict(enumerate(P))),
    ("top-k takes the first of equals", {"top_k": 2}, (0.25, 0.25, 0.25, 0.25), {0: 0.5, 1: 0.5}),
    ("top-p keeps the token that crosses it", {"top_p": 0.6}, P, {0: 2 / 3, 1: 1 / 3}),
    ("top-p just below the first token", {"top_p": 0.49}, P, {0: 1}),
    ("top-p 0 keeps one", {"top_p": 0.0}, P, {0: 1}),
    ("top-p after top-k is of what top-k left", {"top_k": 2, "top_p": 0.66}, P, {0: 1}),
    ("top-p of equals", {"top_p": 0.5}, (0.25, 0.25, 0.25, 0.25), {0: 0.5, 1: 0.5}),
    ("min-p is of the best", {"min_p": 0.4}, P, {0: 2 / 3, 1: 1 / 3}),
    ("min-p 1 keeps the best", {"min_p": 1.0}, P, {0: 1}),
    ("min-p 1 keeps equals", {"min_p": 1.0}, (0.4, 0.4, 0.2), {0: 0.5, 1: 0.5}),
    ("top-p is of all tokens", {"min_p": 0.25, "top_p": 0.7}, P, {0: 2 / 3, 1: 1 / 3}),
    ("temperature 0.5 squares", {"temperature": 0.5}, (0.8, 0.2), {0: 16 / 17, 1: 1 / 17}),
    ("temperature 2 takes the root", {"temperature": 2.0}, (0.8, 0.2), {0: 2 / 3, 1: 1 / 3}),
    ("min-p is later", {"temperature": 2, "min_p": 0.45}, (0.8, 0.2), {0: 2 / 3, 1: 1 / 3}),
    ("almost no temperature", {"temperature": 1e-9}, P, {0: 1}),
    ("temperature 0", {"temperature": 0.0}, P, {0: 1}),
    ("impossible tokens", {}, (0, 0.5, 0, 0.5), {1: 0.5, 3: 0.5}),
    ("one token", {"top_k": 3, "top_p": 0.5, "min_p": 0.1}, (1.0,), {0: 1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "probabilities", "expected"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_what_may_be_drawn_and_how_often(
    options: Mapping[str, float], probabilities: tuple[float, ...], expected: dict[int, float]
) -> None:
    shares = drawn(replace(OPEN, **options), logits_of(*probabilities))  # type: ignore[arg-type]
    assert shares.keys() == expected.keys()
    for id, share in expected.items():  # 1500 draws: 5 standard deviations are below 0.065
        assert abs(shares[id] - share) < 0.065


def reference(sampling: Sampling, logits: Tensor) -> Tensor:
    """The same filters by a full sort in float64: probabilities (V,)."""
    scaled = logits.double() / sampling.temperature
    values, ids = scaled.sort(descending=True, stable=True)
    keep = sampling.top_k or len(values)
    probabilities = values[:keep].softmax(0)
    allowed = probabilities >= sampling.min_p * probabilities[0]
    if sampling.top_p < 1:
        allowed &= probabilities.cumsum(0) - probabilities < sampling.top_p
    allowed[0] = True
    kept = torch.where(allowed, probabilities, torch.zeros(()).double())
    return torch.zeros(len(values)).double().scatter(0, ids[:keep], kept / kept.sum())


@pytest.mark.parametrize("top_k", [0, 5, 300])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3])
@pytest.mark.parametrize("min_p", [0.0, 0.02])
def test_filters_keep_what_a_full_sort_keeps(top_k: int, top_p: float, min_p: float) -> None:
    sampling = Sampling(temperature=0.8, top_k=top_k, top_p=top_p, min_p=min_p)
    generator = torch.Generator().manual_seed(5)
    for spread in (0.1, 1.0, 5.0):
        logits = torch.randn(1000, generator=generator) * spread
        row = logits.numpy()
        ids, weights = Sampler(sampling, 1, 1000)._kept(row, float(row.max()))
        ours = np.zeros(1000)
        ours[slice(None) if ids is None else ids] = weights / weights.sum()
        want = reference(sampling, logits).numpy()
        assert np.abs(ours - want).max() < 1e-5
        # Float32 and float64 may differ by the one token at the border of top-p.
        assert abs(np.count_nonzero(ours) - np.count_nonzero(want)) <= (1 if top_p < 1 else 0)


def test_the_seed_decides() -> None:
    logits = torch.randn(500, generator=torch.Generator().manual_seed(1))

    def draws(seed: int) -> list[int]:
        sampler = Sampler(Sampling(), seed, 500)
        return [sampler.draw(logits, ())[0] for _ in range(40)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)


def test_half_precision_rows_are_read(dtype: torch.dtype = torch.bfloat16) -> None:
    logits = logits_of(0.1, 0.7, 0.2).to(dtype)
    assert drawn(replace(OPEN, top_k=1), logits, num=5) == {1: 1}
    before = logits.clone()
    Sampler(replace(OPEN, logit_bias={0: 5.0}), 1, 3).draw(logits, [1])
    assert torch.equal(logits, before)


GREEDY = replace(OPEN, temperature=0.0)
LOGITS = (2.0, 1.9, -1.0, -1.2)
PENALTIES: list[tuple[str, Mapping[str, object], list[int], int]] = [
    ("none", {}, [0, 0, 0], 0),
    ("repetition divides what is positive", {"repetition_penalty": 1.1}, [0], 1),
    ("repetition below 1 invites", {"repetition_penalty": 0.5}, [1], 1),
    ("repetition counts once", {"repetition_penalty": 1.04}, [0, 0, 0, 0], 0),
    ("presence is subtracted once", {"presence_penalty": 0.09}, [0, 0, 0], 0),
    ("presence", {"presence_penalty": 0.11}, [0], 1),
    ("frequency is subtracted per time", {"frequency_penalty": 0.04}, [0, 0, 0], 1),
    ("frequency, once", {"frequency_penalty": 0.04}, [0], 0),
    ("bias", {"logit_bias": {3: 10.0}}, [], 3),
    ("bias forbids", {"logit_bias": {0: -INF}}, [], 1),
    ("bias for ids that do not exist", {"logit_bias": {99: 10.0, -1: 10.0}}, [], 0),
    ("history with ids that do not exist", {"presence_penalty": 1.0}, [99, -1, 0], 1),
]


@pytest.mark.parametrize(
    ("options", "history", "expected"),
    [case[1:] for case in PENALTIES],
    ids=[case[0] for case in PENALTIES],
)
def test_penalties(options: Mapping[str, object], history: list[int], expected: int) -> None:
    sampler = Sampler(replace(GREEDY, **options), 1, 4)  # type: ignore[arg-type]
    assert sampler.draw(torch.tensor(LOGITS), history)[0] == expected


def test_repetition_pushes_negative_logits_down() -> None:
    sampler = Sampler(replace(GREEDY, repetition_penalty=1.5), 1, 2)
    assert sampler.draw(torch.tensor([-1.0, -1.2]), [0])[0] == 1


def test_counts_follow_a_history_that_grows_and_is_cut() -> None:
    sampler = Sampler(replace(GREEDY, frequency_penalty=0.04), 1, 4)
    logits = torch.tensor(LOGITS)
    history: list[int] = []
    chosen = []
    for _ in range(8):
        chosen.append(sampler.draw(logits, history)[0])
        history.append(chosen[-1])
    assert chosen == [0, 0, 0, 1, 0, 1, 0, 1]
    assert sampler.draw(logits, [0])[0] == 0  # counted anew


def test_logprobs_are_those_of_the_model() -> None:
    names = "abcd"
    sampling = replace(GREEDY, num_logprobs=2, temperature=0.0, logit_bias={3: 50.0})
    sampler = Sampler(sampling, 1, 4, text_of=lambda id: names[id])
    id, logprob = sampler.draw(logits_of(*P), ())
    assert id == 3
    assert logprob is not None
    assert (logprob.id, logprob.text) == (3, "d")
    assert logprob.logprob == pytest.approx(math.log(0.1), abs=1e-6)
    assert [(i, text) for i, text, _ in logprob.alternatives] == [(0, "a"), (1, "b")]
    assert [v for _, _, v in logprob.alternatives] == pytest.approx(
        [math.log(0.5), math.log(0.25)], abs=1e-6
    )
    assert Sampler(GREEDY, 1, 4).draw(logits_of(*P), ())[1] is None
    many = replace(sampling, num_logprobs=64)
    assert len(Sampler(many, 1, 4).draw(logits_of(*P), ())[1].alternatives) == 4  # type: ignore[union-attr]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize(
    "row", [(1.0, math.nan, 2.0), (1.0, INF, 2.0), (-INF, -INF), (math.nan, math.nan)]
)
def test_logits_that_are_no_numbers_are_an_error(
    row: tuple[float, ...], temperature: float
) -> None:
    sampler = Sampler(Sampling(temperature=temperature), 1, len(row))
    with pytest.raises(CheckpointBroken, match="try another precision"):
        sampler.draw(torch.tensor(row), ())

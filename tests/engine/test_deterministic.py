"""The deterministic mode: a reply is the same to the bit, in any company and with any cache."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

from engine.kernels.step import MAX_TOKENS
from engine.kv_cache import Slot
from engine.llama import Llama
from engine.loading import attach_step
from engine.quantize import Precision
from engine.speculation import Worth
from tests.engine.answers import ids_of
from tests.engine.checkpoints import WIDE, make_checkpoint
from tests.engine.scheduling import Bench, loaded, prompt_of

WAYS = ["fp32", "bf16", "int8", "int4", "bf16 by torch", "int8 by torch"]
NEEDS_A_COMPILER = shutil.which("cc") is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("models") / "wide", **WIDE)


@pytest.fixture(params=WAYS)
def model(request: pytest.FixtureRequest, folder: Path) -> Llama:
    precision, _, by_torch = request.param.partition(" ")
    made = loaded(folder, cast(Precision, precision))
    if not by_torch:
        if NEEDS_A_COMPILER:
            pytest.skip("needs a C compiler to build the kernels")
        assert attach_step(made)
    return made


@pytest.fixture
def bench(model: Llama, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(Worth, "allows", lambda _self: True)
    made = Bench(folder, model=model, deterministic=True)
    yield made
    made.scheduler.close()


def logits_of(bench: Bench, seen: list[Tensor]) -> None:
    def note(logits: Tensor) -> Tensor:
        seen.extend(logits.clone())
        return logits

    bench.model.after = note


def test_a_row_in_company_equals_its_solo_run_to_the_bit(bench: Bench) -> None:
    prompts = [[256, *(prompt_of(12, seed)[1:] * 3)] for seed in range(4)]
    width = bench.model.steady_width
    alone, together = list[Tensor](), list[Tensor]()
    logits_of(bench, alone)
    replies = [ids_of(list(bench.ask(prompt, 12, scope=""))) for prompt in prompts]
    go = bench.hold()
    bench.model.passes.clear()
    logits_of(bench, together)
    streams = [bench.ask(prompt, 12, scope="") for prompt in prompts]
    go.set()
    assert [ids_of(list(stream)) for stream in streams] == replies
    assert max(map(sum, bench.model.passes)) <= width
    if width == MAX_TOKENS:
        assert any(len(each) > 1 for each in bench.model.passes), "they never shared a pass"
    known = {row.numpy().tobytes() for row in alone}
    wanted = [row for row in together if row.numpy().tobytes() not in known]
    # Guesses read further ahead in company than alone, or less far: those rows stand for tokens
    # that were not written. Of each token that was written there is one and the same.
    assert len(wanted) <= len(together) - 12 * len(prompts)


def test_what_is_kept_changes_nothing(bench: Bench) -> None:
    prompt = prompt_of(40)
    first = ids_of(list(bench.ask(prompt, 16, scope="1")))
    longer = [*prompt, *first, 11, 12, 13]
    warm = list(bench.ask(longer, 16, scope="1"))
    assert warm[-1].statistics is not None and warm[-1].statistics.num_reused > 40
    assert ids_of(warm) == ids_of(list(bench.ask(longer, 16, scope="")))


def test_a_pass_without_the_mode_is_wider(folder: Path) -> None:
    bench = Bench(folder)
    list(bench.ask(prompt_of(100), 2, scope=""))
    bench.scheduler.close()
    assert max(map(sum, bench.model.passes)) == 100


def test_the_own_kernel_computes_each_token_as_if_it_were_alone(model: Llama) -> None:
    """What `steady_width` promises, compared bit by bit over passes of every make-up."""
    width = model.steady_width
    slots = [Slot(model.cache_shape) for _ in range(3)]
    texts = [prompt_of(30, seed) for seed in range(3)]
    lone: list[Tensor] = []
    for slot, text in zip(slots, texts, strict=True):
        model.make_room(slot, 40)
        lone.append(torch.cat([model.forward([token], [(slot, 1)]) for token in text]))
        slot.trim(0)
    generator = torch.Generator().manual_seed(3)
    while slots[0].length < 30:
        left = 30 - slots[0].length
        num = int(torch.randint(1, min(left, max(1, width // 3)) + 1, (1,), generator=generator))
        at = slots[0].length
        if width == 1:
            parts = [
                model.forward([text[at]], [(slot, 1)])
                for slot, text in zip(slots, texts, strict=True)
            ]
            logits = torch.stack(parts)
        else:
            ids = [token for text in texts for token in text[at : at + num]]
            logits = model.forward(ids, [(slot, num) for slot in slots], every=True)
            logits = logits.view(3, num, -1)
        for row, expected in zip(logits, lone, strict=True):
            assert torch.equal(row, expected[at : at + row.shape[0]])

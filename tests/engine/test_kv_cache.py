"""Keys and values in int8: how near they are, and that everything else works with them."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import torch
from torch import Tensor

from engine.base import Prompt, Sampling, Statistics
from engine.checkpoint import open_checkpoint
from engine.kv_cache import Kept, Slot, cache_shape, from_int8, to_int8
from engine.llama import Llama
from engine.loading import attach_step
from engine.local import LocalEngine
from engine.options import Options
from engine.shapes import shape
from engine.weights import load_llama
from tests.engine.checkpoints import WIDE, make_checkpoint

CPU = torch.device("cpu")
IDS = [256, *((at * at * 7) % 256 for at in range(80))]


def test_values_come_back_within_half_a_step() -> None:
    values = torch.randn(4, 7, 32, generator=torch.Generator().manual_seed(1))
    values[0, 0] = 0
    back = from_int8(to_int8(values), torch.float32)
    step = values.abs().amax(dim=-1, keepdim=True) / 127
    assert ((back - values).abs() <= 0.501 * step).all()


@pytest.mark.parametrize("name", ["llama-3.2-1b", "llama-3-8b"])
def test_it_takes_about_half_of_sixteen_bits(name: str) -> None:
    wide = cache_shape(shape(name), "int8", CPU)
    assert wide.dtype == torch.bfloat16
    ratio = cache_shape(shape(name), "int8", CPU, "int8").token_bytes / wide.token_bytes
    assert 0.5 < ratio < 0.54


def logits(folder: Path, kept: Kept, *, step: bool) -> Tensor:
    """Of a prompt read at once, then of tokens one by one; with the own kernel or without."""
    model = load_llama(open_checkpoint(folder), "fp32", CPU, kept=kept)
    if step and not attach_step(model):
        pytest.skip("needs a C compiler to build the kernels")
    slot = Slot(model.cache_shape)
    model.make_room(slot, len(IDS))
    rows = [model.forward(IDS[:60], [(slot, 60)], every=True)]
    rows += [model.forward([token], [(slot, 1)]) for token in IDS[60:]]
    return torch.cat(rows)


@pytest.mark.parametrize("step", [True, False])
def test_answers_stay_near(step: bool, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, **WIDE)
    exact, ours = logits(folder, "auto", step=step), logits(folder, "int8", step=step)
    error = (ours - exact).abs().mean() / exact.std()
    assert 0 < error < 0.05
    same = (ours.argmax(dim=-1) == exact.argmax(dim=-1)).float().mean()
    assert same > 0.9, "greedy tokens differ"


def test_kernel_and_torch_keep_the_same(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, **WIDE)

    def first_entries(model: Llama) -> Tensor:
        slot = Slot(model.cache_shape)
        model.make_room(slot, 8)
        model.forward(IDS[:8], [(slot, 8)])
        return from_int8(slot.layers[0][:, :8], torch.float32)

    plain, own = (load_llama(open_checkpoint(folder), "fp32", CPU, kept="int8") for _ in range(2))
    if not attach_step(own):
        pytest.skip("needs a C compiler to build the kernels")
    expected = first_entries(plain)
    assert (first_entries(own) - expected).abs().max() <= 0.02 * expected.abs().max()


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[list[LocalEngine]]:
    """Started one after the other on the same folder of kept pieces."""
    made: list[LocalEngine] = []
    yield made
    for engine in made:
        engine.close()


def start(folder: Path, kept: Kept) -> LocalEngine:
    disk = folder.parent / "kept"
    return LocalEngine(
        folder, Options(device="cpu", threads=1, precision="fp32", kept=kept, disk_folder=disk)
    )


def ask(engine: LocalEngine, ids: list[int]) -> tuple[list[int], Statistics]:
    sampling = Sampling(temperature=0, max_new_tokens=6)
    chunks = list(engine.stream(Prompt(ids=ids), sampling, cancel=Event(), scope="user-1/a"))
    statistics = chunks[-1].statistics
    assert statistics is not None
    return [token for chunk in chunks for token in chunk.ids], statistics


def test_prefixes_are_reused_in_memory_and_from_the_disk(
    tmp_path: Path, engines: list[LocalEngine]
) -> None:
    folder = make_checkpoint(tmp_path / "model", **WIDE, max_position_embeddings=1024)
    ids = [256, *((at * at * 7) % 256 for at in range(299))]
    engines.append(start(folder, "int8"))
    answer, cold = ask(engines[0], ids)
    again, warm = ask(engines[0], ids)
    assert (cold.num_reused, warm.num_reused) == (0, 299) and again == answer
    engines[0].close()
    engines.append(start(folder, "int8"))
    restored, from_disk = ask(engines[1], ids)
    assert from_disk.num_reused == 256 and restored == answer
    engines[1].close()
    engines.append(start(folder, "auto"))
    assert ask(engines[2], ids)[1].num_reused == 0, "pieces of another precision were read"

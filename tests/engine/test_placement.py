"""Where accelerate puts the parts of a model, and what that costs, by arithmetic done by hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from engine import bandwidth, placement
from engine.bandwidth import DISK, MEMORY
from engine.fit import CHUNK, activation_bytes, part_bytes
from engine.kv_cache import cache_shape
from engine.placement import Placement, places_here, plan, seconds_per_pass
from engine.shapes import shape

GB = 10**9
LLAMA_8B = shape("llama-3.1-8b")
# A layer of it in bf16: query and output, key and value, gate, up and down, two norms.
LAYER = 2 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096)
TABLE, NORM = 2 * 128256 * 4096, 2 * 4096
SLOT = 4096 * 128 * 1024  # keys and values of 4,096 tokens, over all layers
TEN = {"cuda:0": 10 * GB, "cuda:1": 10 * GB}


def taken(found: Placement, place: str) -> int:
    return sum(size for part, size in found.sizes.items() if found.places[part] == place)


def test_a_model_that_fits_lies_on_its_device_whole() -> None:
    found = plan(LLAMA_8B, "bf16", {"cuda:0": 20 * GB, MEMORY: 64 * GB}, context=4096)
    assert found is not None and found.is_whole
    assert found.brought_bytes(MEMORY) == 0 and seconds_per_pass(found, {}) == 0
    assert found.layer_devices == (torch.device("cuda:0"),) * 32


def test_what_a_gpu_has_no_room_for_lies_in_main_memory() -> None:
    found = plan(LLAMA_8B, "bf16", {"cuda:0": 10 * GB, MEMORY: 64 * GB}, context=4096)
    assert found is not None and not found.is_whole
    here = found.num_layers("cuda:0")
    assert found.num_layers(MEMORY) == 32 - here
    assert found.brought_bytes(MEMORY) == (32 - here) * LAYER + NORM + TABLE
    # The GPU also takes in the largest part that is brought, the head, and all keys and values.
    used = TABLE + here * LAYER + TABLE + SLOT
    assert 10 * GB - LAYER - GB // 2 < used < 10 * GB
    assert set(found.layer_devices) == {torch.device("cuda:0")}
    per_token = ((32 - here) * LAYER + NORM + TABLE) / (25 * GB)
    assert seconds_per_pass(found, {MEMORY: 25 * GB}) == pytest.approx(per_token)


def test_a_second_gpu_comes_before_main_memory_and_holds_its_own_keys_and_values() -> None:
    found = plan(LLAMA_8B, "bf16", {**TEN, MEMORY: 64 * GB}, context=4096)
    assert found is not None and not found.is_whole
    assert found.brought_bytes(MEMORY) == 0 and seconds_per_pass(found, {}) == 0
    for gpu in TEN:
        num = found.num_layers(gpu)
        assert num and taken(found, gpu) + num * SLOT // 32 < 10 * GB
    places = [found.places[f"layers.{layer}"] for layer in range(32)]
    assert places == sorted(places)
    assert [str(device) for device in found.layer_devices] == places


def test_the_disk_comes_last_and_must_be_large_enough() -> None:
    room = {MEMORY: 6 * GB, DISK: 40 * GB}
    found = plan(LLAMA_8B, "int8", room, context=4096)
    assert found is not None and found.main == MEMORY
    on_disk = found.brought_bytes(DISK)
    assert on_disk == sum(found.sizes.values()) - taken(found, MEMORY) > 0
    assert found.brought_bytes(MEMORY) == 0  # it is computed there
    assert plan(LLAMA_8B, "int8", {**room, DISK: on_disk - 1}, context=4096) is None


@pytest.mark.parametrize(
    "room",
    [
        {"cuda:0": 8 * GB},  # nothing else may be used
        {"cuda:0": 8 * GB, MEMORY: 4 * GB},
        {"cuda:0": GB, MEMORY: 64 * GB},  # the head alone is larger than what it would compute on
        {"mps": 8 * GB},
    ],
    ids=str,
)
def test_no_room_is_no_placement(room: dict[str, int]) -> None:
    assert plan(LLAMA_8B, "bf16", room, context=4096) is None


def test_no_place_is_ever_filled_beyond_its_room() -> None:
    draw = random.Random(5)
    spread = 0
    for _ in range(60):
        name = draw.choice(["llama-3.1-8b", "llama-3.2-1b", "llama-2-13b"])
        config, precision = shape(name), draw.choice(["bf16", "int8"])
        gpus = {f"cuda:{number}": draw.randrange(1, 16) * GB for number in range(draw.randrange(3))}
        room = {**gpus, MEMORY: draw.randrange(1, 24) * GB, DISK: draw.randrange(1, 40) * GB}
        context = draw.choice([512, 4096])
        found = plan(config, precision, room, context=context)  # type: ignore[arg-type]
        if found is None:
            continue
        main = torch.device(found.main)
        kept = cache_shape(config, precision, main)  # type: ignore[arg-type]
        a_slot = kept.bucket(context) * kept.token_bytes // kept.num_layers
        passes = activation_bytes(config, precision, min(context, CHUNK), context, kept)  # type: ignore[arg-type]
        assert found.sizes == part_bytes(config, precision, main)  # type: ignore[arg-type]
        brought = [size for part, size in found.sizes.items() if found.is_brought(part)]
        for place, free in room.items():
            used = taken(found, place)
            if place in {str(device) for device in found.layer_devices}:
                used += passes + a_slot * sum(str(d) == place for d in found.layer_devices)
            if place == found.main:
                used += max(brought, default=0)
            assert used <= free, (found, room)
        order = [list(room).index(place) for place in found.places.values()]
        assert order == sorted(order)
        spread += not found.is_whole
    assert spread > 10


def test_what_may_be_used_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, folder = torch.device("cpu"), tmp_path / "not" / "there" / "yet"
    assert list(places_here(cpu, "auto", folder=folder)) == [MEMORY]
    assert list(places_here(cpu, "disk", folder=folder)) == [MEMORY, DISK]
    assert list(places_here(cpu, "disk")) == [MEMORY]
    assert places_here(cpu, "never", most_bytes=1000) == {MEMORY: 1000}
    monkeypatch.setattr(placement, "free_bytes", lambda device: 100 if device.index else 1000)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cuda = torch.device("cuda")
    both = {"cuda:0": 850, "cuda:1": 85, MEMORY: 850}
    assert places_here(cuda, "auto", folder=folder) == both
    assert list(places_here(cuda, "disk", folder=folder)) == [*both, DISK]
    assert places_here(cuda, "never") == {"cuda:0": 850}
    assert places_here(torch.device("cuda:1"), "auto") == {"cuda:1": 85, MEMORY: 850}
    assert list(places_here(torch.device("mps"), "disk", folder=folder)) == ["mps"]


def test_the_bandwidth_is_measured_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bandwidth, "_PROBE_BYTES", 1 << 20)
    bandwidth.bandwidth.cache_clear()
    for place in (MEMORY, DISK):
        assert bandwidth.bandwidth(place, "cpu", tmp_path) > 0
    assert list(tmp_path.iterdir()) == []
    bandwidth.bandwidth.cache_clear()

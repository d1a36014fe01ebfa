"""Slots and the prefixes kept of them."""

from collections.abc import Sequence

import pytest
import torch

from engine.errors import DeviceOutOfMemory
from engine.kv_cache import FIRST_BUCKET, CacheShape, Slot
from engine.prefix import MIN_REUSED, Key, PrefixCache, common_prefix

SHAPE = CacheShape(
    num_layers=2,
    num_kv_heads=1,
    head_dim=4,
    dtype=torch.float32,
    device=torch.device("cpu"),
    context_length=1000,
)


def slot_of(ids: Sequence[int], scope: str = "1") -> Slot:
    """A slot that holds `ids`, each token's keys and values being its id."""
    slot = Slot(SHAPE, scope=scope)
    slot.reserve(len(ids))
    for layer in slot.layers:
        layer[:, : len(ids)] = torch.tensor(ids, dtype=torch.float32)[None, :, None]
    slot.ids = list(ids)
    return slot


def holds(slot: Slot, ids: Sequence[int]) -> bool:
    return slot.ids == list(ids) and all(
        layer[0, : len(ids), 0].tolist() == list(ids) for layer in slot.layers
    )


def test_buckets_double_up_to_the_context() -> None:
    assert [SHAPE.bucket(n) for n in (1, 256, 257, 513, 1000)] == [256, 256, 512, 1000, 1000]
    assert SHAPE.token_bytes == 2 * 2 * 1 * 4 * 4


def test_growing_keeps_what_is_there() -> None:
    slot = slot_of(range(200))
    slot.reserve(300)
    assert slot.capacity == 512 and slot.num_bytes == 512 * SHAPE.token_bytes
    assert holds(slot, range(200))


def test_a_slot_that_cannot_grow_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    slot = slot_of(range(200))

    def fail(*_size: int, **_options: object) -> torch.Tensor:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
        )

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(DeviceOutOfMemory, match="no room for 300 tokens"):
        slot.reserve(300)
    assert slot.capacity == FIRST_BUCKET and holds(slot, range(200))


@pytest.mark.parametrize("shared", [0, 1, 2, 17, 99, 100])
def test_common_prefix(shared: int) -> None:
    a = list(range(100))
    b = [*range(shared), *([-1] * (100 - shared)), 5]
    assert common_prefix(a, b) == common_prefix(b, a) == shared


def test_the_next_turn_gets_the_same_slot() -> None:
    cache, slot = PrefixCache(), slot_of(range(50))
    cache.keep(slot)
    assert cache.take(Key("1"), [*range(50), 99, 98]) is slot
    assert len(cache) == 0 and holds(slot, range(50))


def test_at_least_one_token_is_left_to_read() -> None:
    cache = PrefixCache()
    cache.keep(slot_of(range(50)))
    taken = cache.take(Key("1"), list(range(50)))
    assert taken is not None and taken.length == 49


def test_regenerating_trims_and_branching_copies() -> None:
    cache, slot = PrefixCache(), slot_of(range(100))
    cache.keep(slot)
    branch = cache.take(Key("1"), [*range(30), 7, 7, 7])
    assert branch is not None and branch is not slot and holds(branch, range(30))
    assert len(cache) == 1 and holds(slot, range(100))
    again = cache.take(Key("1"), [*range(90), 7, 7, 7])
    assert again is slot and holds(slot, range(90))


def test_a_running_row_is_copied_never_taken() -> None:
    running = slot_of(range(40))
    taken = PrefixCache().take(Key("1"), [*range(40), 1, 2], [running])
    assert taken is not None and taken is not running and holds(taken, range(40))


def test_what_must_not_be_found_is_not_found() -> None:
    cache = PrefixCache()
    cache.keep(slot_of(range(50), "1/a"))
    prompt = [*range(50), 1]
    assert cache.take(Key("2/a"), prompt) is None  # somebody else's
    assert cache.take(Key(""), prompt) is None  # asked to keep out
    assert cache.take(Key("1/b", 64), prompt) is None  # rotated for another length
    assert cache.take(Key("1/b"), [*range(MIN_REUSED - 1), 900, 901]) is None  # not worth it
    taken = cache.take(Key("1/b"), prompt)
    assert taken is not None and taken.scope == "1/b"


def test_nothing_is_kept_without_a_scope() -> None:
    cache, slot = PrefixCache(), slot_of(range(50), "")
    cache.keep(slot)
    assert len(cache) == 0 and slot.num_bytes == 0


def test_a_longer_slot_replaces_its_own_beginning() -> None:
    cache = PrefixCache()
    cache.keep(slot_of(range(50)))
    cache.keep(slot_of(range(40), "2"))
    cache.keep(slot_of(range(80)))
    assert len(cache) == 2
    assert cache.num_bytes == 2 * FIRST_BUCKET * SHAPE.token_bytes


def test_the_least_recently_used_goes_first() -> None:
    cache = PrefixCache()
    for start in (0, 100, 200):
        cache.keep(slot_of(range(start, start + 60)))
    cache.take(Key("1"), [*range(20), 5, 6])  # a copy: the first slot is used again
    freed = cache.evict(1)
    assert freed == FIRST_BUCKET * SHAPE.token_bytes
    assert cache.take(Key("1"), [*range(100, 160), 1]) is None
    assert cache.take(Key("1"), [*range(60), 1]) is not None


def test_forgetting_a_conversation_or_an_owner() -> None:
    cache = PrefixCache()
    for at, scope in enumerate(("1/a", "1/b", "11/a", "1")):
        cache.keep(slot_of(range(at * 100, at * 100 + 50), scope))
    cache.forget("1/a")
    assert len(cache) == 3
    cache.forget("1")
    assert len(cache) == 1
    assert cache.take(Key("11/a"), [*range(200, 250), 1]) is not None

"""Large pages: the tensor keeps its numbers, and lies on such pages where the system has them."""

import ctypes
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.kernels import pages

SIZE = 5 * pages.PAGE_BYTES


def large_page_bytes(tensor: Tensor) -> int:
    """Bytes of large pages in the mappings that `tensor` lies in."""
    first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            start, end = (int(part, 16) for part in name.split("-"))
            inside = start < last and first < end
        elif inside and name == "AnonHugePages:":
            found += int(rest.split()[0]) << 10
    return found


def test_weights_lie_on_large_pages_with_the_same_numbers() -> None:
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not switch.exists() or "[never]" in switch.read_text():
        pytest.skip("the system has no transparent large pages")
    weights = torch.empty(SIZE, dtype=torch.int8)
    pages.use_large_pages(weights)
    weights.copy_(torch.arange(SIZE))
    assert torch.equal(weights, torch.arange(SIZE).to(torch.int8))
    if large_page_bytes(weights) == 0:
        pytest.skip("the system has no free large page now")
    assert large_page_bytes(weights) >= pages.PAGE_BYTES


def test_what_fills_no_large_page_and_other_systems_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def note(_start: object, size: ctypes.c_size_t, _how: int) -> None:
        asked.append(size.value)

    monkeypatch.setattr(pages, "_advise", lambda: note)
    pages.use_large_pages(torch.ones(100))
    assert not asked
    large = torch.ones(SIZE // 4)
    pages.use_large_pages(large)
    assert len(asked) == 1
    assert asked[0] % pages.PAGE_BYTES == 0 < asked[0] <= SIZE
    monkeypatch.setattr(pages, "_advise", lambda: None)
    pages.use_large_pages(large)
    assert len(asked) == 1

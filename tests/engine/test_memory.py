"""What is freed goes back to the system."""

import sys

import psutil
import pytest
import torch

from engine.memory import lean

BLOCK, NUM = 4 << 20, 32


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_while_a_model_is_loaded_large_blocks_are_returned_when_they_are_freed() -> None:
    with lean():
        pass  # from here on glibc keeps blocks of this size
    with lean():
        blocks = [torch.ones(BLOCK, dtype=torch.uint8) for _ in range(NUM)]
        held = resident()
        del blocks[1::2]  # with holes between those that stay
        assert resident() <= held - 0.2 * BLOCK * NUM  # threads of other tests allocate, too
        blocks.clear()
        assert resident() <= held - 0.7 * BLOCK * NUM

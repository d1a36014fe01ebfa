"""What is freed goes back to the system."""

import subprocess
import sys

import pytest

# In a process of its own: a heap that other tests have left holes in would serve from those.
CHILD = """
import psutil
from engine.memory import lean

def resident():
    return psutil.Process().memory_info().rss >> 20

with lean():
    pass  # from here on glibc keeps blocks of this size
with lean():
    blocks = [b"x" * (4 << 20) for _ in range(32)]
    held = resident()
    del blocks[1::2]  # with holes between those that stay
    half = resident()
    blocks.clear()
    print(held - half, held - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_while_a_model_is_loaded_large_blocks_are_returned_when_they_are_freed() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    half, all_of_them = map(int, done.stdout.split())
    assert half >= 60
    assert all_of_them >= 124

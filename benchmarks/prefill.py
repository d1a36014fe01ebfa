"""How fast the engine reads a prompt, next to llama.cpp and transformers.

`python -m benchmarks.prefill`: as `benchmarks/decode.py`, with a prompt of 512 tokens.
"""

from __future__ import annotations

import sys

from benchmarks import decode

if __name__ == "__main__":
    sys.exit(decode.main(what="prefill"))

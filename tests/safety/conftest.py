"""A tiny guard with random weights, in the layout of the bundled one."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

CATEGORIES = ["violent_crimes", "hate", "self_harm"]
KINDS = ("en prompt", "en reply", "zh prompt", "zh reply")


def ngram_tensors(rng: np.random.Generator, *, n: int, d: int, h: int, c: int) -> dict:
    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return {
        "vectors": rng.integers(-127, 128, (n, d)).astype(np.int8),
        "vector_scale": np.full(d, 0.01, np.float32),
        "known": rng.integers(0, 256, 512, dtype=np.uint8),  # a filter of 4,096 bits
        "weights": rng.uniform(0.1, 5, n).astype(np.float16),
        "hidden.weight": normal(h, 4 * d + 2),
        "hidden.bias": normal(h),
        "unsafe.weight": normal(1, h),
        "unsafe.bias": normal(1),
        "category.weight": normal(c, h),
        "category.bias": normal(c),
        "advice.weight": normal(1, h),
        "advice.bias": normal(1),
    }


@pytest.fixture
def tiny_guard(tmp_path: Path) -> Path:
    """A folder with a guard of n-grams alone."""
    folder = tmp_path / "tiny-guard"
    folder.mkdir()
    shape = {"num_buckets": 512, "filter_bits": 4096, "dim": 4, "hidden": 8}
    shape["num_categories"] = len(CATEGORIES)
    config = {
        "format": 2,
        "model_type": "corral-guard",
        "name": "tiny",
        "version": "t1",
        "categories": CATEGORIES,
        "mixes": {kind: {"ngrams": 1.0, "encoder": 0.0, "offset": -0.5} for kind in KINDS},
        "ngrams": shape,
    }
    tensors = ngram_tensors(np.random.default_rng(0), n=512, d=4, h=8, c=len(CATEGORIES))
    save_file(tensors, folder / "ngrams.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder

"""llama.cpp's side of the speed benchmarks, for an interpreter that has llama-cpp-python only.

`run FILE THREADS` does a round for each line; see `benchmarks/peers.py`. `quantize IN OUT FORMAT`
makes a smaller file.
"""

import ctypes
import json
import sys
import time

import llama_cpp
import numpy as np


def run(file: str, threads: int) -> None:
    """Load `file`; then a line `[num_prompt, num_new]` in, an object with two rates out."""
    model = llama_cpp.Llama(
        file, n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    print(json.dumps({"version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        num_prompt, num_new = json.loads(line)
        model.reset()
        began = time.perf_counter()
        model.eval([7919 * at % model.n_vocab() for at in range(num_prompt)])
        token = best(model)
        read = time.perf_counter()
        for _ in range(num_new):
            model.eval([token])
            token = best(model)
        written = time.perf_counter()
        rates = {"prefill": num_prompt / (read - began), "decode": num_new / (written - read)}
        print(json.dumps(rates), flush=True)


def best(model: llama_cpp.Llama) -> int:
    """The likeliest next token."""
    logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
    return int(np.ctypeslib.as_array(logits, shape=(model.n_vocab(),)).argmax())


def quantize(source: str, target: str, name: str) -> None:
    """Make `target` from `source` by llama.cpp's own quantizer, with its defaults."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
    failed = llama_cpp.llama_model_quantize(
        source.encode(), target.encode(), ctypes.byref(parameters)
    )
    if failed:
        raise SystemExit(f"llama.cpp could not quantize {source} to {name}.")


if __name__ == "__main__":
    if sys.argv[1] == "quantize":
        quantize(*sys.argv[2:])
    else:
        run(sys.argv[2], int(sys.argv[3]))

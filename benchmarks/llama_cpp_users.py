"""llama.cpp with parallel sequences, for an interpreter that has llama-cpp-python only.

`FILE THREADS MOST_USERS`; then for each line `[users, num_prompt, num_new]` an object with the
tokens per second of all users together, prompts included: see `benchmarks/users.py`.
"""

import ctypes
import json
import sys
import time

import llama_cpp
import numpy as np

MOST_PROMPT, MOST_NEW = 64, 256  # tokens of one user


class Parallel:
    """One context in which each user is a sequence of its own."""

    def __init__(self, file: str, threads: int, most_users: int) -> None:
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(file.encode(), options)
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = most_users * (MOST_PROMPT + MOST_NEW)
        settings.n_batch = settings.n_ubatch = max(512, most_users)
        settings.n_seq_max = most_users
        settings.n_threads = settings.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        if not self.context:
            raise SystemExit(f"llama.cpp could not open {file}.")
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(self.model)
        )
        self.batch = llama_cpp.llama_batch_init(settings.n_batch, 0, most_users)

    def rate(self, users: int, num_prompt: int, num_new: int) -> float:
        """New tokens of all users per second, from the first prompt to the last token."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        began = time.perf_counter()
        tokens = []
        for user in range(users):
            prompt = [(7919 * at + user) % self.vocab_size for at in range(num_prompt)]
            self._decode([(token, at, user) for at, token in enumerate(prompt)])
            tokens.append(self._best(-1))
        for step in range(1, num_new):
            place = num_prompt + step - 1
            self._decode([(token, place, user) for user, token in enumerate(tokens)], every=True)
            tokens = [self._best(user) for user in range(users)]
        return users * num_new / (time.perf_counter() - began)

    def _decode(self, entries: list[tuple[int, int, int]], *, every: bool = False) -> None:
        batch = self.batch
        for at, (token, place, user) in enumerate(entries):
            batch.token[at], batch.pos[at] = token, place
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, user
            batch.logits[at] = every or at == len(entries) - 1
        batch.n_tokens = len(entries)
        if llama_cpp.llama_decode(self.context, batch):
            raise SystemExit("llama.cpp could not decode a batch.")

    def _best(self, place: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self.context, place)
        numbers = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float))
        return int(np.ctypeslib.as_array(numbers, shape=(self.vocab_size,)).argmax())


if __name__ == "__main__":
    parallel = Parallel(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps({"version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"tokens_per_second": parallel.rate(*json.loads(line))}), flush=True)

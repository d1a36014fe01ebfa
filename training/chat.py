"""Make the bundled chat model, a step at a time or all at once: `python -m training.chat all`.

Steps: `tokenizer`, `encode`, `train`, `export`; each reads what the one before it wrote to the work
folder. `--smoke` does everything in about a minute on the repository's own texts. The scores come
from `python -m training.evaluate`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile

import numpy as np
import torch
from tokenizers import Tokenizer

from training.cards import card_rows
from training.export import blended, export, export_error, load_export
from training.made import made_rows
from training.mixture import Mixture
from training.model import Llama, Shape
from training.packing import Encoder, load_texts, save_texts
from training.sources import (
    SOURCES,
    SYSTEM_LINES,
    TEXTS,
    Row,
    Source,
    asks_any,
    battery_questions,
    held_out,
    read_rows,
    speaks_of_itself,
    tells_any_name,
    turned_away,
)
from training.tokenizer import save_tokenizer, train_tokenizer
from training.train import Pace, Phase, Trainer, mixture_shares, slow_weights

REPOSITORY = Path(__file__).resolve().parent.parent
BUNDLED = REPOSITORY / "assets" / "models" / "corral-chat"
TOKENIZER_SOURCES = frozenset(
    {"chitchat", "topics", "skills", "reading", "instruct", "stories", "dialogue", "definitions"}
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result."""

    shape: Shape
    phases: tuple[Phase, ...]
    pace: Pace
    num_made: int  # rows of each made kind
    seed: int = 20


FULL = Recipe(
    shape=Shape(),
    phases=(
        Phase("language", 800_000, muon_lr=0.02, adam_lr=0.004, part_weights=(0.0, 0.3, 1.0)),
        Phase(
            "assistant",
            5_000_000,
            muon_lr=0.02,
            adam_lr=0.004,
            part_weights=(0.0, 0.0, 1.0),
            decay=0.5,
        ),
    ),
    pace=Pace(),
    num_made=25_000,
)
SMOKE = Recipe(
    shape=Shape(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    ),
    phases=(
        Phase("language", 60_000, muon_lr=0.02, adam_lr=0.004, part_weights=(0.0, 0.3, 1.0)),
        Phase(
            "assistant",
            30_000,
            muon_lr=0.01,
            adam_lr=0.002,
            part_weights=(0.0, 0.0, 1.0),
            decay=0.5,
        ),
    ),
    pace=Pace(step_tokens=2048, batch_tokens=1024),
    num_made=200,
)


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes."""

    data: Path
    work: Path
    out: Path
    smoke: bool
    chosen: tuple[str, ...] = ()  # of the sources, for the encoding step; none: all
    start: Path | None = None  # an exported folder whose weights and tokenizer are trained on
    keep: float = 0.0  # share of the weights of `start` in what is exported

    @property
    def tokenizer(self) -> Path:
        return self.work / "tokenizer"

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources, or for a smoke run those that the repository holds."""
        return tuple(s for s in SOURCES if not self.smoke or s.own)


def rows_of(source: Source, place: Place, recipe: Recipe) -> Iterator[Row]:
    """Every row of a source, held-out ones included."""
    if source.path.startswith("made/"):
        yield from made_rows(Path(source.path).name, recipe.num_made, recipe.seed)
    elif source.own:
        yield from card_rows(TEXTS / Path(source.path).name, recipe.seed)
    elif source.name == "chinese":
        yield from turned_away(read_rows(place.data / source.path))
    else:
        for row in read_rows(place.data / source.path):
            if source.takes(row) and not speaks_of_itself(row):
                yield row


def _wordings(row: Row) -> Iterator[str]:
    yield from (turn["content"] for turn in row.get("messages", []))
    if text := row.get("text"):
        yield text


def make_tokenizer(place: Place, recipe: Recipe) -> None:
    """Step 1: learn the vocabulary from the chat files (a smoke run: from its own texts).

    Weights that are trained on keep the tokenizer that they know.
    """
    if place.start is not None:
        place.tokenizer.mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            copyfile(place.start / name, place.tokenizer / name)
        return
    texts = (
        wording
        for source in place.sources
        if place.smoke or source.name in TOKENIZER_SOURCES
        for row in rows_of(source, place, recipe)
        if not held_out(row)
        for wording in _wordings(row)
    )
    tokenizer = train_tokenizer(texts, recipe.shape.vocab_size)
    save_tokenizer(tokenizer, place.tokenizer, recipe.shape.max_position_embeddings)


def encode(place: Place, recipe: Recipe) -> None:
    """Step 2: every source as arrays of ids; what is held out or in the battery stays out."""
    tried = battery_questions()
    tokenizer = Tokenizer.from_file(str(place.tokenizer / "tokenizer.json"))
    encoder = Encoder(tokenizer, recipe.shape.max_position_embeddings)
    for source in place.sources:
        if place.chosen and source.name not in place.chosen:
            continue
        rows = rows_of(source, place, recipe)
        texts = encoder.encode(
            row
            for row in rows
            if not (held_out(row) or asks_any(row, tried) or tells_any_name(row))
        )
        if texts:
            save_texts(texts, place.work / "texts" / f"{source.name}.npz")
            print(f"{source.name}: {len(texts)} texts, {sum(map(len, texts))} tokens", flush=True)


def _mixture(place: Place, recipe: Recipe, phase: Phase, seed: int) -> Mixture:
    paths = {s.name: place.work / "texts" / f"{s.name}.npz" for s in place.sources}
    texts = {name: load_texts(path) for name, path in paths.items() if path.exists()}
    shares = {s.name: s.language if phase.part_weights[1] else s.assistant for s in place.sources}
    print("\n".join(mixture_shares(texts, shares)), flush=True)
    encoder = Encoder(
        Tokenizer.from_file(str(place.tokenizer / "tokenizer.json")),
        recipe.shape.max_position_embeddings,
    )
    lines = SYSTEM_LINES.read_text(encoding="utf-8").splitlines()
    system = [
        np.array(encoder.turn({"role": "system", "content": line})[0], np.uint16)
        for line in lines
        if line
    ]
    return Mixture(
        texts,
        shares,
        frozenset(s.name for s in place.sources if s.chained),
        system,
        plain=frozenset(s.name for s in place.sources if s.prose),
        context_length=recipe.shape.max_position_embeddings,
        seed=seed,
    )


def train(place: Place, recipe: Recipe) -> None:
    """Step 3: the phases, each from the averaged weights of the one before; resumes by itself.

    A phase of no tokens is left out: `--start FOLDER --tokens 0 N` goes on with the second one.
    """
    model = Llama(recipe.shape)
    model.start(recipe.seed)
    if place.start is not None:
        model = load_export(place.start).train()
    for number, phase in enumerate(recipe.phases):
        if not phase.tokens:
            continue
        trainer = Trainer(model, phase, recipe.pace, place.work)
        trainer.resume()
        if trainer.tokens < phase.tokens:
            # A resumed run draws on, from another place in the shuffled texts.
            trainer.run(_mixture(place, recipe, phase, recipe.seed + number + trainer.steps))
        model.load_state_dict(slow_weights(trainer.checkpoint))


def export_step(place: Place, recipe: Recipe) -> None:
    """Step 4: the newest phase's averaged weights as the folder that is shipped, and a check."""
    done = [place.work / f"{phase.name}.pt" for phase in recipe.phases]
    weights = slow_weights([path for path in done if path.exists()][-1])
    if place.start is not None and place.keep:
        weights = blended(weights, dict(load_export(place.start).named_parameters()), place.keep)
    export(weights, recipe.shape, place.tokenizer, place.out)
    size = sum(path.stat().st_size for path in place.out.iterdir())
    error = export_error(weights, recipe.shape, place.out)
    print(f"{place.out}: {size / 1e6:.1f} MB, largest logit change {error:.3f} of their spread")


STEPS = {
    "tokenizer": make_tokenizer,
    "encode": encode,
    "train": train,
    "export": export_step,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.chat", description=__doc__)
    parser.add_argument("step", choices=[*STEPS, "all"])
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "training" / "runs" / "chat")
    parser.add_argument("--out", type=Path, default=None, help="where the export goes")
    parser.add_argument("--start", type=Path, help="an exported folder to train on from")
    parser.add_argument("--keep", type=float, default=0.0, help="share of --start in the export")
    parser.add_argument("--seed", type=int, default=FULL.seed, help="a new one draws other texts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--smoke", action="store_true", help="a minute on the repository's texts")
    parser.add_argument("--source", nargs="*", help="encode these sources only")
    parser.add_argument("--made", type=int, help="rows of each made kind, instead of the recipe's")
    parser.add_argument("--tokens", type=int, nargs="*", help="tokens of each phase")
    args = parser.parse_args()
    recipe = SMOKE if args.smoke else FULL
    if args.tokens:
        phases = tuple(
            replace(p, tokens=n) for p, n in zip(recipe.phases, args.tokens, strict=True)
        )
        recipe = replace(recipe, phases=phases)
    if args.made:
        recipe = replace(recipe, num_made=args.made)
    if args.start:
        recipe = replace(recipe, shape=load_export(args.start).shape)
    recipe = replace(recipe, pace=replace(recipe.pace, device=args.device), seed=args.seed)
    place = Place(
        args.data,
        args.work,
        args.out or args.work / "export",
        args.smoke,
        tuple(args.source or ()),
        args.start,
        args.keep,
    )
    torch.manual_seed(recipe.seed)
    for name, step in STEPS.items():
        if args.step in (name, "all"):
            step(place, recipe)


if __name__ == "__main__":
    main()

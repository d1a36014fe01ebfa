"""What the commands of `python -m engine` do, once their arguments are read.

stdout carries the result only; statistics and notes go to stderr. Each imports what it needs when
it runs, so that a mistake is said before torch is loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from engine.base import Chunk, EngineInfo, Message, Prompt, Sampling
from engine.catalog import resolve
from engine.errors import PromptEmpty, SamplingInvalid
from engine.evaluate import Score, read_conversations, read_messages, score_conversation
from engine.home import MEASURED, OFFLOADED, PointerUnreadable, data_folder
from engine.infill import infill_ids
from engine.usual import usual_sampling

# What shapes the choice of a token, as `--name value`.
FILTERS: dict[str, type[int | float]] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
}

if TYPE_CHECKING:
    from engine.local import LocalEngine
    from engine.opening import Opened
    from engine.options import Options
    from engine.placement import Offloading


def generate(options: argparse.Namespace) -> int:
    prompt = _prompt(options)
    sampling = _sampling(options, resolve(options.model, models=options.models))
    engine = _engine(options)
    try:
        last = Chunk()
        text = ""
        for last in engine.stream(prompt, sampling, cancel=Event(), scope=""):
            print(last.text, end="", flush=bool(last.text))
            text = last.text or text
        print(end="" if text.endswith("\n") else "\n")
        note(_cost(last))
        return 0
    finally:
        engine.close()


def _sampling(options: argparse.Namespace, folder: Path) -> Sampling:
    """The model's own way to sample, changed by what the command line says."""
    given = {name: getattr(options, name) for name in FILTERS}
    chosen = {name: value for name, value in given.items() if value is not None}
    if options.greedy:
        chosen["temperature"] = 0.0
    return replace(
        usual_sampling(folder),
        **chosen,
        seed=options.seed,
        max_new_tokens=options.max_new_tokens,
        stop=tuple(options.stop),
    )


def _prompt(options: argparse.Namespace) -> Prompt:
    if options.messages is not None:
        if options.raw or options.infill:
            raise PromptEmpty("--raw and --infill take a text: give it with --prompt.")
        messages = read_messages(options.messages)
        if messages[-1]["role"] == "assistant":
            return Prompt(messages=messages[:-1], reply_prefix=messages[-1]["content"])
        return Prompt(messages=messages)
    text = sys.stdin.read() if options.prompt == "-" else options.prompt
    if not text.strip():
        raise PromptEmpty("The prompt is empty: write something after --prompt.")
    if options.infill:
        return Prompt(ids=infill_ids(_opened(options).tokenizer, text))
    if options.raw:
        return Prompt(text=text)
    message: Message = {"role": "user", "content": text}
    return Prompt(messages=[message])


def score(options: argparse.Namespace) -> int:
    form = _opened(options).format
    engine = _engine(options)
    try:
        for path in options.files:
            total = Score()
            for messages in read_conversations(path):
                total += score_conversation(
                    engine, form, messages, context_length=engine.info().context_length
                )
            print(f"{path} {total.bits_per_byte:.4f} {total.num_bytes}", flush=True)
            cut = f", {total.num_cut} cut at the end of the context" if total.num_cut else ""
            note(f"{path}: {total.num_replies} replies{cut}")
        return 0
    finally:
        engine.close()


def bench(options: argparse.Namespace) -> int:
    folder = None if options.shape else resolve(options.model, models=options.models)
    from engine.bench import run_bench

    for name in ("num_prompt", "num_new"):
        if getattr(options, name) < 2:
            raise SamplingInvalid(f"--{name.replace('_', '-')} must be at least 2.")
    measured = run_bench(
        folder,
        _chosen(options),
        shape_name=options.shape,
        num_prompt=options.num_prompt,
        num_new=options.num_new,
    )
    if options.json:
        print(json.dumps(measured))
    else:
        print("\n".join(f"{name}: {value}" for name, value in measured.items()))
    return 0


def inspect(options: argparse.Namespace) -> int:
    folder = None
    if not (options.known or options.shape):
        folder = resolve(options.model, models=options.models)
    from engine.inspect import describe, describe_checkpoint, describe_known
    from engine.quality import known_quality
    from engine.shapes import shape

    if options.known:
        print(describe_known(device=options.device))
    elif folder is None:
        config, placed = shape(options.shape), _offloading(options)
        print(describe(config, name=options.shape, device=options.device, offloading=placed))
    else:
        print(describe_checkpoint(folder, _chosen(options)))
        opened = _opened(options)
        print(_text_side(opened))
        for quality in known_quality(opened.fingerprint, _folder(MEASURED)).values():
            print(f"Measured here: {quality}.")
    return 0


def fit(options: argparse.Namespace) -> int:
    if options.context < 1 or options.users < 1:
        raise SamplingInvalid("--context and --users must be at least 1.")
    if options.shape:
        from engine.shapes import shape

        config = shape(options.shape)
    else:
        from engine.opening import open_llama

        path = resolve(options.model, models=options.models)
        config = open_llama(path, _chosen(options)).config
    from engine.inspect import describe_need

    print(
        describe_need(
            config,
            options.precision,
            context=min(options.context, config.context_length),
            users=options.users,
            device=options.device,
            offloading=_offloading(options),
        )
    )
    return 0


def _opened(options: argparse.Namespace) -> Opened:
    """The model that the options name, its weights still on the disk."""
    from engine.opening import open_model

    return open_model(resolve(options.model, models=options.models), _chosen(options))


def _chosen(options: argparse.Namespace) -> Options:
    """How the command line wants a model read, held and run."""
    from engine.options import Options

    return Options(
        adapter=options.adapter,
        allow_pickle=options.allow_pickle,
        extension=options.extension,
        device=options.device,
        precision=options.precision,
        kept=options.cache_precision,
        measured=_folder(MEASURED),
        offloading=_offloading(options),
        threads=options.threads or None,
    )


def _text_side(opened: Opened) -> str:
    """How the model reads and writes text: vocabulary, chat format, what ends a reply."""
    tokenizer, form = opened.tokenizer, opened.format
    ends = sorted(tokenizer.special_text(id) or str(id) for id in form.stop_ids)
    kind = f"Chat format {form.name}" if form.chat else "No chat format: it completes texts"
    return (
        f"{tokenizer.vocab_size} tokens, {len(tokenizer.special_ids)} of them special. "
        f"{kind}; a reply ends with {', '.join(ends) or 'nothing but its length'}."
    )


def _engine(options: argparse.Namespace) -> LocalEngine:
    folder = resolve(options.model, models=options.models)
    from engine.local import LocalEngine

    engine = LocalEngine(folder, _chosen(options))
    note(_described(engine.info()))
    return engine


def _offloading(options: argparse.Namespace) -> Offloading:
    """What may hold the layers that the device has no room for."""
    from engine.placement import Offloading

    if options.device_megabytes < 0:
        raise SamplingInvalid("--device-megabytes must be 0 or more.")
    return Offloading(options.offload, _folder(OFFLOADED), options.device_megabytes << 20)


def _folder(name: str) -> Path | None:
    """A folder in the data folder; None if that cannot be found."""
    try:
        return data_folder() / name
    except PointerUnreadable:
        return None


def _described(info: EngineInfo) -> str:
    known = (
        f"{info.model}: {info.num_parameters / 1e6:.1f} million parameters, {info.precision} on "
        f"{info.device}, context {info.context_length}."
    )
    return " ".join(filter(None, (known, info.note, info.unrecorded)))


def _cost(last: Chunk) -> str:
    """One line about a finished reply."""
    cost = last.statistics
    if cost is None:
        return "The reply has no end."
    return (
        f"{cost.num_prompt} prompt tokens ({cost.num_reused} reused), {cost.num_new} new; "
        f"first after {cost.first_token_seconds:.3f} s, then {cost.tokens_per_second:.1f} "
        f"tokens/s; ended by {last.finish_reason}; seed {cost.seed}."
    )


def note(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)

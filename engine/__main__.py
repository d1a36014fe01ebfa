"""`python -m engine`: generate, score, bench, inspect, fit, models, download, by hand.

stdout carries the result only; statistics and notes go to stderr; an error is one sentence and a
non-zero exit. torch is imported when a command needs it, so that `--help` and mistakes are quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from engine import catalog_commands, commands
from engine.base import Sampling
from engine.catalog import BUILT_IN
from engine.commands import note
from engine.errors import CheckpointMissing, EngineError
from engine.evaluate import RowsInvalid
from engine.home import PointerUnreadable, data_folder

_DEVICES = "auto, cpu, cuda, cuda:1, mps"
_OFFLOAD = (
    "where layers go that the device has no room for: other GPUs and main memory (auto), the disk "
    "as well (disk), or nowhere (never)"
)
_PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8", "int4", "int4-128")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 only if it did what was asked."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        options = _parser().parse_args(arguments)
        return int(options.run(options))
    except (EngineError, RowsInvalid) as error:
        note(str(error))
        return 1
    except KeyboardInterrupt:
        note("Stopped.")
        return 130
    except BrokenPipeError:  # the reader of stdout has gone; nothing is left to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def models_folder() -> Path:
    """Where the app keeps downloaded models when nothing else was chosen."""
    try:
        return data_folder() / "models"
    except PointerUnreadable as error:
        raise CheckpointMissing(str(error)) from error


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one sentence."""

    def error(self, message: str) -> NoReturn:
        sentence = message[:1].upper() + message[1:]
        self.exit(2, f"{sentence}. `{self.prog} --help` lists what is possible.\n")


def _parser() -> argparse.ArgumentParser:
    """All commands; the `--help` of each ends with examples to copy."""
    parser = _Parser(prog="python -m engine", description="Run a model by hand.")
    words = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, help_line, add_options, examples in _COMMANDS:
        lines = [f"  python -m engine {name} {example}".rstrip() for example in examples]
        command = words.add_parser(
            name,
            help=help_line,
            description=f"{help_line[:1].upper()}{help_line[1:]}.",
            epilog="\n".join(("examples:", *lines)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_options(command)
    return parser


def _add_model(parser: argparse.ArgumentParser, *, shape: str = "") -> None:
    """Which model, computed how; `shape` describes a `--shape` in place of it, if there is one."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model", default=BUILT_IN, help="built-in, a folder, a GGUF file, or a name"
    )
    if shape:
        which.add_argument("--shape", metavar="NAME", help=shape)
    add = parser.add_argument
    add("--models", type=Path, default=models_folder(), help="folder of downloaded models")
    add("--device", default="auto", help=_DEVICES)
    add("--precision", default="auto", choices=_PRECISIONS)
    add("--offload", default="auto", choices=("auto", "disk", "never"), help=_OFFLOAD)
    most = "memory of the device that the model may take; 0 takes what is free"
    add("--device-megabytes", type=int, default=0, metavar="N", help=most)
    kept = "keys and values: auto, or int8 in about half the memory"
    add("--cache-precision", default="auto", choices=("auto", "int8"), help=kept)
    add("--threads", type=int, default=0, help="processor threads; 0 chooses by the machine")
    add("--adapter", type=Path, metavar="DIR", help="a LoRA adapter that is merged into the model")
    add(
        "--allow-pickle",
        action="store_true",
        help="open .pth and .bin files, for tensors only, of makers that you trust",
    )
    add("--extension", default="", help="a longer context: linear:2, dynamic:2 or yarn:4")


def _add_generate(parser: argparse.ArgumentParser) -> None:
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--prompt", metavar="P", help='what the user says; "-" reads stdin')
    given.add_argument(
        "--messages",
        type=Path,
        metavar="FILE.json",
        help="a conversation; one that ends with the assistant is continued",
    )
    add = parser.add_argument
    add("--raw", action="store_true", help="continue the prompt itself, without the chat format")
    add("--infill", action="store_true", help="write what stands at <FILL_ME> in the prompt")
    add("--greedy", action="store_true", help="always the most likely token")
    add("--seed", type=int, help="the same seed gives the same reply")
    add("--max-new-tokens", type=int, default=Sampling().max_new_tokens, metavar="N")
    for name, kind in commands.FILTERS.items():
        add(f"--{name.replace('_', '-')}", type=kind, help="where not given, the model's own")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before this text")
    _add_model(parser)
    parser.set_defaults(run=commands.generate)


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl")
    _add_model(parser)
    parser.set_defaults(run=commands.score)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, shape="random weights of a known size, as llama-3.2-1b")
    add = parser.add_argument
    add("--num-prompt", type=int, default=512, metavar="N", help="tokens that are read")
    add("--num-new", type=int, default=64, metavar="N", help="tokens that are written")
    add("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=commands.bench)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, shape="a known size, as llama-3.2-1b, without its weights")
    parser.add_argument("--known", action="store_true", help="one line for every known size")
    parser.set_defaults(run=commands.inspect)


def _add_fit(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, shape="a known size, as llama-3.2-1b, without its weights")
    add = parser.add_argument
    add("--context", type=int, default=4096, metavar="N", help="tokens of each conversation")
    add("--users", type=int, default=1, metavar="N", help="conversations at the same time")
    parser.set_defaults(run=commands.fit)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", type=Path, default=models_folder(), help="folder of downloaded models"
    )
    parser.set_defaults(run=catalog_commands.models)


def _add_download(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "name",
        metavar="NAME",
        help="a name that `models` lists, or owner/name; one quantization of a repository's GGUF "
        "files is owner/name:Q4_K_M",
    )
    add("--models", type=Path, default=models_folder(), help="folder of downloaded models")
    add("--token-file", type=Path, metavar="FILE", help='the hub\'s token; "-" reads stdin')
    add("--endpoint", metavar="URL", help="another hub than huggingface.co")
    add("--json", action="store_true", help="progress as lines of JSON on stderr")
    parser.set_defaults(run=catalog_commands.download)


_COMMANDS: tuple[
    tuple[str, str, Callable[[argparse.ArgumentParser], None], tuple[str, ...]], ...
] = (
    (
        "generate",
        "write a reply on stdout",
        _add_generate,
        (
            '--prompt "Hello!"',
            "--messages chat.json --greedy --max-new-tokens 100",
            '--model FILE.gguf --precision int8 --prompt "Hello!"',
        ),
    ),
    (
        "score",
        "bits per byte of the replies in files",
        _add_score,
        ("replies.jsonl --model FOLDER",),
    ),
    (
        "bench",
        "measure prefill and decode on this machine",
        _add_bench,
        ("--precision int8", "--shape llama-3.2-1b --precision int4 --json"),
    ),
    (
        "inspect",
        "what a model is, and what of it fits here",
        _add_inspect,
        ("--model FOLDER", "--shape llama-3.1-8b", "--known"),
    ),
    (
        "fit",
        "what a model will take, before it is loaded",
        _add_fit,
        (
            "--shape llama-3.2-1b --precision int8 --context 8192",
            "--model FILE.gguf --users 4",
        ),
    ),
    (
        "models",
        "models that are here, known ones, and what of them fits",
        _add_models,
        ("",),
    ),
    (
        "download",
        "fetch a model from the model hub, or go on with it",
        _add_download,
        (
            "smollm2-1.7b-instruct",
            "llama-3.2-1b-instruct --token-file token.txt",
            "owner/name",
            "owner/name:Q4_K_M",
        ),
    ),
)


if __name__ == "__main__":
    sys.exit(main())

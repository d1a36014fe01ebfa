"""What `models` and `download` do: which models are here or known, and fetching one.

Only `download` goes online, and only for what it was asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from engine.catalog import BUILT_IN, BUILT_IN_FOLDER, KNOWN, installed
from engine.commands import note
from engine.errors import CheckpointMissing, EngineError, QuantizationUnchosen
from engine.stores import find

if TYPE_CHECKING:
    from engine.transfer import Progress


def models(options: argparse.Namespace) -> int:
    from engine.inspect import fits_here

    paths = {found.name: found.path for found in find()} | dict(installed(options.models))
    print(f"{BUILT_IN:30}{'':>9}  {BUILT_IN_FOLDER}")
    for model in KNOWN:
        place = next((paths.pop(n) for n in (model.name, model.repo.lower()) if n in paths), None)
        access = "gated" if model.gated else "open"
        told = place or f"{access}, {model.licence}, {model.purpose}, {fits_here(model.shape)}"
        print(f"{model.name:30}{model.weights_bytes / 1e9:6.1f} GB  {told}")
    for name, folder in sorted(paths.items()):
        print(f"{name:30}{'':>9}  {folder}")
    return 0


def download(options: argparse.Namespace) -> int:
    from engine.download import download, repository_name
    from engine.hub import Hub

    name = repository_name(options.name)
    token = None
    if options.token_file is not None:
        token = _token(options.token_file)
    os.environ["HF_HUB_OFFLINE"] = "0"  # this command, and no other, is asked to go online
    hub = Hub(endpoint=options.endpoint, token=token)
    show = _show_json if options.json else _show_line
    try:
        path = download(hub, name, options.models, cancel=Event(), progress=show)
    except EngineError as error:
        if not options.json:
            raise
        choices = error.choices if isinstance(error, QuantizationUnchosen) else ()
        told = {"error": type(error).__name__, "text": str(error), "choices": choices}
        note(json.dumps(told))
        return 1
    note(json.dumps({"path": str(path)}) if options.json else "")
    print(path)
    return 0


def _token(file: Path) -> str:
    try:
        text = sys.stdin.readline() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointMissing(f"The token file {file} cannot be read: {error}.") from error
    return text.strip()


def _show_json(progress: Progress) -> None:
    note(json.dumps({**asdict(progress), "seconds_left": progress.seconds_left}))


def _show_line(progress: Progress) -> None:
    left = progress.seconds_left
    print(
        f"\r{progress.num_done_bytes / 1e9:.2f} of {progress.num_total_bytes / 1e9:.2f} GB, "
        f"{progress.bytes_per_second / 1e6:.1f} MB/s"
        + (f", {left / 60:.0f} min left" if left is not None else "")
        + "    ",
        end="",
        file=sys.stderr,
        flush=True,
    )

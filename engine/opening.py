"""A path → all that is needed to answer with the model there, and how to load its weights.

Here it is decided who computes: Llama-shaped models run on this engine's own forward pass, other
decoders on the modules of transformers (`engine/transformers_model.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from engine.base import EngineInfo
from engine.chat_format import ChatFormat, chat_format_for, template_format
from engine.checkpoint import Checkpoint, open_checkpoint
from engine.errors import CheckpointBroken, ModelUnsupported
from engine.extension import extended
from engine.llama import Llama
from engine.loading import load_model
from engine.model import Model
from engine.options import USUAL, Options
from engine.quality import QualityCheck
from engine.tokenizer import Tokenizer, load_tokenizer
from engine.tool_format import ToolFormat, tool_format_for
from engine.transformers_model import ForeignFolder, is_foreign


class LoadedModel(Model, Protocol):
    """A model that can say how it is held, and let go of its weights."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def precision(self) -> str:
        """How its weights are held."""
        ...

    def unload(self) -> None:
        """Let go of all weights."""
        ...


class Load(Protocol):
    """Loads the weights → the model, and a note if it is not as it was wanted. Blocks."""

    def __call__(self, device: torch.device, precision: str, /) -> tuple[LoadedModel, str]:
        """Raises `CheckpointError` or `DeviceOutOfMemory`."""
        ...


@dataclass(frozen=True)
class Opened:
    """A model whose headers were read: how it reads and writes text, and how to load it."""

    name: str
    fingerprint: str
    architecture: str
    num_parameters: int
    vocab_size: int
    tokenizer: Tokenizer
    format: ChatFormat
    tools: ToolFormat | None
    load: Load
    checkpoint: Checkpoint | None = None  # of a Llama

    def info(self, model: LoadedModel, context_length: int, device: str) -> EngineInfo:
        """What is known once it is loaded as `model`; `device` is a name to show."""
        return EngineInfo(
            model=self.name,
            fingerprint=self.fingerprint,
            architecture=self.architecture,
            num_parameters=self.num_parameters,
            context_length=context_length,
            device=device,
            precision=model.precision,
            tools=self.tools.style if self.tools else "",
            chat=self.format.chat,
            kernels=model.kernels if isinstance(model, Llama) else "",
            quality=str(model.quality or "") if isinstance(model, Llama) else "",
            spread=model.spread if isinstance(model, Llama) else "",
        )


def open_model(path: Path | str, options: Options = USUAL) -> Opened:
    """Read everything but the weights of the model at `path`. Raises `CheckpointError`."""
    path = Path(path).expanduser()
    if path.is_dir() and is_foreign(path):
        return _open_foreign(path.resolve(), options)
    checkpoint = open_llama(path, options)
    tokenizer, form = open_text(checkpoint)
    return Opened(
        checkpoint.name,
        checkpoint.fingerprint,
        "LlamaForCausalLM",
        checkpoint.config.num_parameters,
        checkpoint.config.vocab_size,
        tokenizer,
        form,
        tool_format_for(checkpoint.text, tokenizer),
        partial(
            load_model,
            checkpoint,
            kept=options.kept,
            check=QualityCheck(checkpoint.fingerprint, tokenizer, options.measured),
            offloading=options.offloading,
        ),
        checkpoint,
    )


def open_llama(path: Path, options: Options) -> Checkpoint:
    """The headers of a Llama, with the adapter and the longer context that `options` ask for.

    Raises `CheckpointError`.
    """
    checkpoint = open_checkpoint(path, adapter=options.adapter, allow_pickle=options.allow_pickle)
    return replace(checkpoint, config=extended(checkpoint.config, options.extension))


def open_draft(path: Path | str, opened: Opened) -> Opened:
    """The headers of a draft model, which guesses what the model of `opened` writes.

    Raises `CheckpointError`, also if the two do not cut text into the same tokens.
    """
    draft = open_model(path)
    ours, theirs = opened.tokenizer, draft.tokenizer
    same = opened.vocab_size == draft.vocab_size and ours.vocab_size == theirs.vocab_size
    if not same or any(
        ours.token_bytes(id) != theirs.token_bytes(id) for id in range(ours.vocab_size)
    ):
        raise ModelUnsupported(
            f"{draft.name} cannot guess for {opened.name}: their tokens differ. Choose a smaller "
            "model of the same family as draft."
        )
    return draft


def _open_foreign(folder: Path, options: Options) -> Opened:
    if options.adapter or options.extension:
        raise ModelUnsupported(
            f"{folder.name} is no Llama: it runs as it is, without an adapter or a longer context."
        )
    opened = ForeignFolder(folder)
    tokenizer = load_tokenizer(folder)
    return Opened(
        folder.name,
        opened.fingerprint,
        opened.architecture,
        opened.num_parameters,
        opened.vocab_size,
        tokenizer,
        template_format(folder, opened.raw, tokenizer),
        tool_format_for(folder, tokenizer),
        partial(opened.load, kept=options.kept),
    )


def open_text(checkpoint: Checkpoint) -> tuple[Tokenizer, ChatFormat]:
    """Tokenizer and chat format. Raises `CheckpointError`, also if they do not fit the weights."""
    tokenizer = load_tokenizer(checkpoint.text)
    form = chat_format_for(checkpoint.text, dict(checkpoint.raw_config), tokenizer)
    if tokenizer.vocab_size > checkpoint.config.vocab_size:
        raise CheckpointBroken(
            f"The tokenizer knows {tokenizer.vocab_size} tokens, the weights "
            f"{checkpoint.config.vocab_size}: they belong to two different models."
        )
    return tokenizer, form

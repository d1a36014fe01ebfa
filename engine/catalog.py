"""Which models there are: names → folders, and facts about the Llamas that people may fetch.

Parameters and context come from each model's shape (`engine/shapes.py`). Sizes are the weights in
16 bit; a repository's other files add a few megabytes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import CheckpointMissing
from engine.quantizations import without_encoding
from engine.shapes import shape
from engine.stores import Stores, find, gguf_files, is_gguf

BUILT_IN = "built-in"
BUILT_IN_FOLDER = Path(__file__).resolve().parent.parent / "assets" / "models" / "corral-chat"
Purpose = Literal["chat", "base", "code", "guard"]
_CONFIGS = ("config.json", "adapter_config.json", "params.json")
_BYTES_PER_PARAMETER = 2


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A public checkpoint. `gated`: its owner asks for an account and a yes to the licence."""

    name: str
    repo: str  # on huggingface.co
    shape: str  # in `engine.shapes`
    licence: str
    gated: bool
    purpose: Purpose

    @property
    def num_parameters(self) -> int:
        return shape(self.shape).num_parameters

    @property
    def context_length(self) -> int:
        return shape(self.shape).context_length

    @property
    def weights_bytes(self) -> int:
        return self.num_parameters * _BYTES_PER_PARAMETER


# Name, repository, shape, licence, access, purpose; within a purpose the newest and smallest first.
_TABLE = """
smollm2-360m-instruct        HuggingFaceTB/SmolLM2-360M-Instruct       smollm2-360m      apache  open   chat
tinyllama-1.1b-chat          TinyLlama/TinyLlama-1.1B-Chat-v1.0        tinyllama-1.1b    apache  open   chat
smollm2-1.7b-instruct        HuggingFaceTB/SmolLM2-1.7B-Instruct       smollm2-1.7b      apache  open   chat
hermes-3-llama-3.2-3b        NousResearch/Hermes-3-Llama-3.2-3B        llama-3.2-3b      3       open   chat
deepseek-r1-distill-llama-8b deepseek-ai/DeepSeek-R1-Distill-Llama-8B  llama-3.1-8b      3.1     open   chat
llama-3.2-1b-instruct        meta-llama/Llama-3.2-1B-Instruct          llama-3.2-1b      3.2     gated  chat
llama-3.2-3b-instruct        meta-llama/Llama-3.2-3B-Instruct          llama-3.2-3b      3.2     gated  chat
llama-3.1-8b-instruct        meta-llama/Llama-3.1-8B-Instruct          llama-3.1-8b      3.1     gated  chat
llama-3.3-70b-instruct       meta-llama/Llama-3.3-70B-Instruct         llama-3.1-70b     3.3     gated  chat
llama-3.1-70b-instruct       meta-llama/Llama-3.1-70B-Instruct         llama-3.1-70b     3.1     gated  chat
llama-3.1-405b-instruct      meta-llama/Llama-3.1-405B-Instruct        llama-3.1-405b    3.1     gated  chat
llama-3-8b-instruct          meta-llama/Meta-Llama-3-8B-Instruct       llama-3-8b        3       gated  chat
llama-3-70b-instruct         meta-llama/Meta-Llama-3-70B-Instruct      llama-3-70b       3       gated  chat
llama-2-7b-chat              meta-llama/Llama-2-7b-chat-hf             llama-2-7b        2       gated  chat
llama-2-13b-chat             meta-llama/Llama-2-13b-chat-hf            llama-2-13b       2       gated  chat
llama-2-70b-chat             meta-llama/Llama-2-70b-chat-hf            llama-2-70b       2       gated  chat
code-llama-7b-instruct       meta-llama/CodeLlama-7b-Instruct-hf       code-llama-7b     2       gated  code
code-llama-34b-instruct      meta-llama/CodeLlama-34b-Instruct-hf      code-llama-34b    2       gated  code
llama-3.2-1b                 meta-llama/Llama-3.2-1B                   llama-3.2-1b      3.2     gated  base
llama-3.2-3b                 meta-llama/Llama-3.2-3B                   llama-3.2-3b      3.2     gated  base
llama-3.1-8b                 meta-llama/Llama-3.1-8B                   llama-3.1-8b      3.1     gated  base
llama-2-7b                   meta-llama/Llama-2-7b-hf                  llama-2-7b        2       gated  base
llama-guard-3-1b             meta-llama/Llama-Guard-3-1B               llama-guard-3-1b  3.2     gated  guard
llama-guard-3-8b             meta-llama/Llama-Guard-3-8B               llama-3.1-8b      3.1     gated  guard
"""  # noqa: E501  # a table is read by its columns


def _read_table() -> tuple[KnownModel, ...]:
    models = []
    for line in _TABLE.strip().splitlines():
        name, repo, size, licence, access, purpose = line.split()
        terms = "Apache 2.0" if licence == "apache" else f"Llama {licence} Community License"
        models.append(KnownModel(name, repo, size, terms, access == "gated", purpose))  # type: ignore[arg-type]  # one of `Purpose`: a test reads them all
    return tuple(models)


KNOWN: tuple[KnownModel, ...] = _read_table()


def known(name: str) -> KnownModel | None:
    """The known model of that short name or repository, whatever the case."""
    wanted = name.strip().lower()
    return next((m for m in KNOWN if wanted in (m.name, m.repo.lower())), None)


def resolve(name: str, *, models: Path | None = None, stores: Stores | None = None) -> Path:
    """The folder (or GGUF file) of a model given as "built-in", a path, or a name.

    A name is a known short name or `owner/name`; it is looked for under `models`, then in `stores`
    (default: where other programs keep what they fetched), whose files are used where they lie.
    Raises `CheckpointMissing`, which says what to do: download it, or which name was nearest.
    """
    name = name.strip()
    if name == BUILT_IN:
        if not BUILT_IN_FOLDER.is_dir():
            raise CheckpointMissing(
                f"The built-in model is not where it belongs ({BUILT_IN_FOLDER}). Get Corral's "
                "files again, or choose another model with --model."
            )
        return BUILT_IN_FOLDER
    model = known(name)
    spellings = [name.lower(), *([model.name, model.repo.lower()] if model else [])]
    here = dict(installed(models))
    elsewhere = {found.name: found.path for found in find(stores)}
    for paths in (here, elsewhere):
        for spelling in spellings:
            if spelling in paths:
                return paths[spelling]
    path = Path(name).expanduser()
    if name and (path.is_dir() or is_gguf(path)):
        return path.resolve()
    if name and path.is_file():
        raise CheckpointMissing(
            f"{name} is a single file. Give a GGUF file, or the folder that holds the weights, "
            "config.json and the tokenizer."
        )
    if model:
        raise CheckpointMissing(
            f"{model.name} is not on this machine yet. Run `python3 launcher.py download "
            f"{model.name}` ({_gigabytes(model.weights_bytes)}), or choose a folder with --model."
        )
    names = [BUILT_IN, *here, *elsewhere, *(m.name for m in KNOWN)]
    raise CheckpointMissing(_unknown(name, names))


def in_another_format(name: str, *, models: Path, stores: Stores | None = None) -> Path | None:
    """The model `name` of the hub as it lies here under another name: as GGUF, or as Meta wrote it.

    Of several quantizations the largest. Ollama's names do not say which model of a family it is.
    """
    elsewhere = ((found.name, found.path) for found in find(stores) if found.program != "ollama")
    alike = {path for here, path in (*installed(models), *elsewhere) if is_alike(here, name)}
    return max(alike, key=lambda path: path.stat().st_size, default=None)


def is_alike(one: str, other: str) -> bool:
    """Whether two names mean the same model: whoever offers it, in whatever format.

    `meta-llama/Llama-3.2-1B-Instruct`, `Llama3.2-1B-Instruct` and `llama-3.2-1b-instruct-Q4_K_M`.
    """
    return _bare(one) == _bare(other)


def _bare(name: str) -> str:
    last = without_encoding(name.rstrip("/").rpartition("/")[2].lower().removesuffix(".gguf"))
    return re.sub(r"^meta|(hf|gguf)$", "", re.sub(r"[^a-z0-9]", "", last))


def installed(models: Path | None) -> list[tuple[str, Path]]:
    """Models under `models`, as (name in lower case, folder or GGUF file), sorted.

    A folder counts as a model if it holds the config of one, or of an adapter, one or two levels
    down (`owner/name`); GGUF files count there too. Folders whose names begin with a dot are not
    looked into: unfinished downloads lie there.
    """
    if models is None or not models.is_dir():
        return []
    found: dict[str, Path] = {}
    configs = [
        c for name in _CONFIGS for depth in ("*", "*/*") for c in models.glob(f"{depth}/{name}")
    ]
    for path in (*(config.parent for config in configs), *gguf_files(models, depth=2)):
        name = model_name(path, models)
        if not name.startswith("."):
            found.setdefault(name, path.resolve())
    return sorted(found.items())


def model_name(path: Path, models: Path) -> str:
    """The name of a folder or GGUF file under `models`: its way from there, in lower case."""
    return path.relative_to(models).as_posix().lower().removesuffix(".gguf")


def _unknown(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else "Give a folder, or built-in."
    return f"There is no model and no folder called {name!r}. {hint}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"

"""Which models there are: names → folders, and facts about the Llamas that people may fetch.

Sizes are the weights in 16 bit, computed from the shapes in the models' `config.json`
(`num_parameters` × 2); a repository's other files add a few megabytes.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.base import CheckpointMissing

BUILT_IN = "built-in"
BUILT_IN_FOLDER = Path(__file__).resolve().parent.parent / "assets" / "models" / "corral-chat"
Purpose = Literal["chat", "base", "code", "guard"]
_BYTES_PER_PARAMETER = 2


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A public checkpoint. `gated`: its owner asks for an account and a yes to the licence."""

    name: str
    repo: str  # on huggingface.co
    num_parameters: int
    context_length: int
    licence: str
    gated: bool
    purpose: Purpose = "chat"

    @property
    def weights_bytes(self) -> int:
        return self.num_parameters * _BYTES_PER_PARAMETER


_LLAMA_2 = "Llama 2 Community License"
_LLAMA_3 = "Llama 3 Community License"
_LLAMA_31 = "Llama 3.1 Community License"
_LLAMA_32 = "Llama 3.2 Community License"
_LLAMA_33 = "Llama 3.3 Community License"
_APACHE = "Apache 2.0"

# Parameters by the architecture of each; the test computes them again.
_8B, _70B, _405B = 8_030_261_248, 70_553_706_496, 405_853_388_800
_2_7B, _2_13B, _2_70B = 6_738_415_616, 13_015_864_320, 68_976_648_192
_32_1B, _32_3B = 1_235_814_400, 3_212_749_824
_LONG = 131_072

KNOWN: tuple[KnownModel, ...] = (
    KnownModel(
        "smollm2-360m-instruct", "HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120, 8192,
        _APACHE, gated=False,
    ),
    KnownModel(
        "tinyllama-1.1b-chat", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1_100_048_384, 2048,
        _APACHE, gated=False,
    ),
    KnownModel(
        "smollm2-1.7b-instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 1_711_376_384, 8192,
        _APACHE, gated=False,
    ),
    KnownModel(
        "llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct", _32_1B, _LONG,
        _LLAMA_32, gated=True,
    ),
    KnownModel(
        "llama-3.2-3b-instruct", "meta-llama/Llama-3.2-3B-Instruct", _32_3B, _LONG,
        _LLAMA_32, gated=True,
    ),
    KnownModel(
        "llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct", _8B, _LONG,
        _LLAMA_31, gated=True,
    ),
    KnownModel(
        "llama-3.3-70b-instruct", "meta-llama/Llama-3.3-70B-Instruct", _70B, _LONG,
        _LLAMA_33, gated=True,
    ),
    KnownModel(
        "llama-3.1-70b-instruct", "meta-llama/Llama-3.1-70B-Instruct", _70B, _LONG,
        _LLAMA_31, gated=True,
    ),
    KnownModel(
        "llama-3.1-405b-instruct", "meta-llama/Llama-3.1-405B-Instruct", _405B, _LONG,
        _LLAMA_31, gated=True,
    ),
    KnownModel(
        "llama-3-8b-instruct", "meta-llama/Meta-Llama-3-8B-Instruct", _8B, 8192,
        _LLAMA_3, gated=True,
    ),
    KnownModel(
        "llama-3-70b-instruct", "meta-llama/Meta-Llama-3-70B-Instruct", _70B, 8192,
        _LLAMA_3, gated=True,
    ),
    KnownModel(
        "llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf", _2_7B, 4096, _LLAMA_2, gated=True
    ),
    KnownModel(
        "llama-2-13b-chat", "meta-llama/Llama-2-13b-chat-hf", _2_13B, 4096, _LLAMA_2, gated=True
    ),
    KnownModel(
        "llama-2-70b-chat", "meta-llama/Llama-2-70b-chat-hf", _2_70B, 4096, _LLAMA_2, gated=True
    ),
    KnownModel("llama-3.2-1b", "meta-llama/Llama-3.2-1B", _32_1B, _LONG, _LLAMA_32, True, "base"),
    KnownModel("llama-3.2-3b", "meta-llama/Llama-3.2-3B", _32_3B, _LONG, _LLAMA_32, True, "base"),
    KnownModel("llama-3.1-8b", "meta-llama/Llama-3.1-8B", _8B, _LONG, _LLAMA_31, True, "base"),
    KnownModel("llama-2-7b", "meta-llama/Llama-2-7b-hf", _2_7B, 4096, _LLAMA_2, True, "base"),
    KnownModel(
        "llama-guard-3-1b", "meta-llama/Llama-Guard-3-1B", 1_498_482_688, _LONG,
        _LLAMA_32, True, "guard",
    ),
    KnownModel(
        "llama-guard-3-8b", "meta-llama/Llama-Guard-3-8B", _8B, _LONG, _LLAMA_31, True, "guard"
    ),
)  # fmt: skip


def known(name: str) -> KnownModel | None:
    """The known model of that short name or repository, whatever the case."""
    wanted = name.strip().lower()
    return next((m for m in KNOWN if wanted in (m.name, m.repo.lower())), None)


def resolve(name: str, *, models: Path | None = None, hub_cache: Path | None = None) -> Path:
    """The folder of a model given as "built-in", a folder, or a name.

    A name is a known short name or `owner/name`; it is looked for under `models`, then in
    `hub_cache` (default: where huggingface_hub keeps what other programs fetched), whose files are
    used where they lie. Raises `CheckpointMissing`, which says what to do: download it, or which
    name was nearest.
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
    for found in (here, dict(in_hub_cache(hub_cache or default_hub_cache()))):
        for spelling in spellings:
            if spelling in found:
                return found[spelling]
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder.resolve()
    if name and folder.is_file():
        raise CheckpointMissing(
            f"{name} is a single file. Give the folder that holds the weights, config.json and "
            "the tokenizer."
        )
    if model:
        raise CheckpointMissing(
            f"{model.name} is not on this machine yet. Run `python3 launcher.py download "
            f"{model.name}` ({_gigabytes(model.weights_bytes)}), or choose a folder with --model."
        )
    raise CheckpointMissing(_unknown(name, [BUILT_IN, *here, *(m.name for m in KNOWN)]))


def installed(models: Path | None) -> list[tuple[str, Path]]:
    """Model folders under `models`, as (name in lower case, folder), sorted.

    A folder counts as a model if it holds a `config.json`, one or two levels down (`owner/name`).
    Folders whose names begin with a dot are not looked into: unfinished downloads lie there.
    """
    if models is None or not models.is_dir():
        return []
    found: dict[str, Path] = {}
    for pattern in ("*/config.json", "*/*/config.json"):
        for config in models.glob(pattern):
            name = config.parent.relative_to(models).as_posix()
            if not name.startswith("."):
                found.setdefault(name.lower(), config.parent.resolve())
    return sorted(found.items())


def default_hub_cache(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> Path:
    """Where huggingface_hub keeps downloads, by its own variables."""
    if cache := environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    if base := environ.get("HF_HOME"):
        return Path(base).expanduser() / "hub"
    caches = environ.get("XDG_CACHE_HOME") or (home or Path.home()) / ".cache"
    return Path(caches).expanduser() / "huggingface" / "hub"


def in_hub_cache(cache: Path) -> list[tuple[str, Path]]:
    """Models with safetensors in a Hugging Face cache, as (owner/name in lower case, snapshot).

    Of several snapshots the one that `refs/main` names counts, else the newest whole one.
    """
    found = []
    for repository in cache.glob("models--*--*"):
        snapshots = [folder for folder in repository.glob("snapshots/*") if _is_whole(folder)]
        if snapshots:
            name = repository.name.removeprefix("models--").replace("--", "/", 1).lower()
            main = _text(repository / "refs" / "main")
            best = max(snapshots, key=lambda folder: (folder.name == main, folder.stat().st_mtime))
            found.append((name, best))
    return sorted(found)


def _is_whole(folder: Path) -> bool:
    """Whether a snapshot has a config and weights, and every link of them leads somewhere."""
    weights = list(folder.glob("*.safetensors"))
    return (folder / "config.json").is_file() and bool(weights) and all(map(Path.is_file, weights))


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _unknown(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else "Give a folder, or built-in."
    return f"There is no model and no folder called {name!r}. {hint}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"

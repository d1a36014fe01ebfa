"""Weights that other programs have downloaded: found on this disk and used where they lie.

Hugging Face's cache, LM Studio, Ollama and llama.cpp. Nothing is copied, changed or locked; small
files and first bytes are read, weights are not. Where each program keeps its files is told by its
own variables: huggingface_hub's `constants.py`, LM Studio's page "Import models", Ollama's
`envconfig` and `server/manifest`, llama.cpp's `fs_get_cache_directory`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Program = Literal["hugging-face", "lm-studio", "ollama", "llama.cpp"]

GGUF_MAGIC = b"GGUF"
_OLLAMA_WEIGHTS = "application/vnd.ollama.image.model"
_MAX_MANIFEST_BYTES = 1 << 20  # real ones have a few hundred
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
# Of a model in several files the first one stands for all; mmproj files are the eyes of a model.
_NOT_A_MODEL = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$|mmproj", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A model of another program. `path` is a folder, or one GGUF file."""

    name: str  # in lower case, beginning with the program unless it is Hugging Face
    path: Path
    program: Program


@dataclass(frozen=True, slots=True)
class Stores:
    """The folders of other programs; they need not exist."""

    hub: Path
    lm_studio: tuple[Path, ...] = ()
    ollama: tuple[Path, ...] = ()
    llama_cpp: Path | None = None

    @classmethod
    def usual(
        cls,
        environ: Mapping[str, str] = os.environ,
        home: Path | None = None,
        platform: str = sys.platform,
    ) -> Stores:
        """Where these programs keep models for this person on this operating system."""
        home = home or Path.home()
        caches = Path(environ.get("XDG_CACHE_HOME") or home / ".cache").expanduser()
        hub_home = Path(environ.get("HF_HOME") or caches / "huggingface").expanduser()
        own_caches = {
            "darwin": home / "Library" / "Caches",
            "win32": Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local"),
        }
        ollama = environ.get("OLLAMA_MODELS")
        usual_ollama = (home / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models"))
        return cls(
            hub=Path(environ.get("HF_HUB_CACHE") or hub_home / "hub").expanduser(),
            lm_studio=(home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"),
            ollama=(Path(ollama).expanduser(),) if ollama else usual_ollama,
            llama_cpp=Path(
                environ.get("LLAMA_CACHE") or own_caches.get(platform, caches) / "llama.cpp"
            ).expanduser(),
        )


def find(stores: Stores | None = None) -> list[Found]:
    """Every model in `stores` (default: the usual ones), by program and name.

    What cannot be read is passed over: it belongs to somebody else.
    """
    stores = stores or Stores.usual()
    found: dict[str, Found] = {}
    for each in (
        *_in_hub(stores.hub),
        *(one for folder in stores.lm_studio for one in _in_lm_studio(folder)),
        *(one for folder in stores.ollama for one in _in_ollama(folder)),
        *_in_llama_cpp(stores.llama_cpp),
    ):
        found.setdefault(each.name, each)
    return sorted(found.values(), key=lambda each: (each.program, each.name))


def is_gguf(file: Path) -> bool:
    """Whether `file` begins as a GGUF file does, whatever its name."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(GGUF_MAGIC)) == GGUF_MAGIC
    except OSError:
        return False


def gguf_files(folder: Path, depth: int = 0) -> Iterator[Path]:
    """The GGUF models in `folder` and its folders, `depth` levels down."""
    for level in range(depth + 1):
        for file in sorted(folder.glob("*/" * level + "*.gguf")):
            if not _NOT_A_MODEL.search(file.name) and is_gguf(file):
                yield file


def _in_hub(cache: Path) -> Iterator[Found]:
    """Of several snapshots the one that `refs/main` names counts, else the newest whole one."""
    for repository in cache.glob("models--*--*"):
        name = repository.name.removeprefix("models--").replace("--", "/", 1).lower()
        main = _text(repository / "refs" / "main")
        snapshots = sorted(
            repository.glob("snapshots/*"),
            key=lambda folder: (folder.name == main, folder.stat().st_mtime),
            reverse=True,
        )
        whole = next(filter(_is_whole, snapshots), None)
        if whole is not None:
            yield Found(name, whole, "hugging-face")
            continue
        for file in (file for folder in snapshots for file in gguf_files(folder)):
            yield Found(f"{name}/{file.stem.lower()}", file, "hugging-face")


def _is_whole(folder: Path) -> bool:
    """Whether a folder has a config and weights, and every link of them leads somewhere."""
    weights = list(folder.glob("*.safetensors"))
    return (folder / "config.json").is_file() and bool(weights) and all(map(Path.is_file, weights))


def _in_lm_studio(models: Path) -> Iterator[Found]:
    """`publisher/model/` with GGUF files, or with safetensors as on the hub."""
    for folder in models.glob("*/*"):
        name = f"lm-studio/{folder.relative_to(models).as_posix()}".lower()
        if _is_whole(folder):
            yield Found(name, folder, "lm-studio")
        for file in gguf_files(folder):
            yield Found(f"{name}/{file.stem.lower()}", file, "lm-studio")


def _in_ollama(models: Path) -> Iterator[Found]:
    """`manifests/registry/space/model/tag` names the blob that holds a model's GGUF file."""
    for manifest in models.glob("manifests/*/*/*/*"):
        _, space, model, tag = manifest.relative_to(models / "manifests").parts
        blob = models / "blobs" / f"sha256-{_weights_digest(manifest)}"
        if is_gguf(blob):
            owner = "" if space == "library" else f"{space}/"
            yield Found(f"ollama/{owner}{model}:{tag}".lower(), blob, "ollama")


def _weights_digest(manifest: Path) -> str:
    """The hash that a manifest names as the weights; "" if it names none."""
    try:
        if manifest.stat().st_size > _MAX_MANIFEST_BYTES:
            return ""
        layers = json.loads(manifest.read_text(encoding="utf-8"))["layers"]
        digests = [layer["digest"] for layer in layers if layer["mediaType"] == _OLLAMA_WEIGHTS]
        match = _DIGEST.fullmatch(digests[0])
        return match[1] if match else ""
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def _in_llama_cpp(cache: Path | None) -> Iterator[Found]:
    for file in gguf_files(cache, depth=1) if cache else ():
        yield Found(f"llama.cpp/{file.stem.lower()}", file, "llama.cpp")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""

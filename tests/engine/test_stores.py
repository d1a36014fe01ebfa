"""Models of other programs, in folders laid out as those programs lay them out."""

import json
import os
from pathlib import Path

import pytest

from engine.stores import Found, Stores, find

GGUF = b"GGUF\3\0\0\0" + bytes(16)
OLLAMA_DIGEST = "a" * 64
usual = Stores.usual  # before tests/conftest.py hides what this machine's owner has


def put(file: Path, content: bytes = GGUF) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A cache as huggingface_hub lays it out: blobs, and snapshots of links to them."""
    cache = tmp_path / "hub"
    old, new, cut = "a" * 40, "b" * 40, "c" * 40
    repository = cache / "models--meta-llama--Llama-3.2-1B-Instruct"
    put(repository / "refs" / "main", old.encode())
    for name in ("config", "weights"):
        put(repository / "blobs" / name, b"{}")
    for commit, blob in ((old, "weights"), (new, "weights"), (cut, "not-there")):
        folder = repository / "snapshots" / commit
        folder.mkdir(parents=True)
        (folder / "config.json").symlink_to("../../blobs/config")
        (folder / "model.safetensors").symlink_to(f"../../blobs/{blob}")
    put(cache / "models--some--tokenizer" / "snapshots" / old / "config.json", b"{}")
    put(cache / "models--Some--Llama-GGUF" / "snapshots" / old / "Llama-Q4_K_M.gguf")
    return cache


def test_the_hubs_cache(hub: Path) -> None:
    snapshots = hub / "models--meta-llama--Llama-3.2-1B-Instruct" / "snapshots"
    gguf = hub / "models--Some--Llama-GGUF" / "snapshots" / ("a" * 40) / "Llama-Q4_K_M.gguf"
    assert find(Stores(hub)) == [
        Found("meta-llama/llama-3.2-1b-instruct", snapshots / ("a" * 40), "hugging-face"),
        Found("some/llama-gguf/llama-q4_k_m", gguf, "hugging-face"),
    ]
    (snapshots.parent / "refs" / "main").unlink()
    os.utime(snapshots / ("a" * 40), (1, 1))
    os.utime(snapshots / ("c" * 40), (2, 2))
    assert find(Stores(hub))[0].path == snapshots / ("b" * 40)


def test_lm_studio(tmp_path: Path) -> None:
    models = tmp_path / "lm"
    file = put(models / "infra-ai" / "Ocelot-v1" / "ocelot-v1-Q4_0.gguf")
    put(models / "infra-ai" / "Ocelot-v1" / "mmproj-ocelot.gguf")  # a part, not a model
    first = put(models / "infra-ai" / "Big" / "big-00001-of-00002.gguf")
    put(models / "infra-ai" / "Big" / "big-00002-of-00002.gguf")
    put(models / "infra-ai" / "Text" / "notes.gguf", b"not a model")
    for name in ("config.json", "model.safetensors"):
        put(models / "owner" / "Whole" / name, b"{}")
    assert find(Stores(tmp_path / "none", lm_studio=(models, tmp_path / "absent"))) == [
        Found("lm-studio/infra-ai/big/big-00001-of-00002", first, "lm-studio"),
        Found("lm-studio/infra-ai/ocelot-v1/ocelot-v1-q4_0", file, "lm-studio"),
        Found("lm-studio/owner/whole", models / "owner" / "Whole", "lm-studio"),
    ]


def manifest(digest: object = f"sha256:{OLLAMA_DIGEST}") -> bytes:
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "b" * 64},
        {"mediaType": "application/vnd.ollama.image.model", "digest": digest},
    ]
    return json.dumps({"schemaVersion": 2, "layers": layers}).encode()


def test_ollama(tmp_path: Path) -> None:
    models = tmp_path / "ollama"
    blob = put(models / "blobs" / f"sha256-{OLLAMA_DIGEST}")
    registry = models / "manifests" / "registry.ollama.ai"
    put(registry / "library" / "llama3.2" / "1b", manifest())
    put(registry / "Somebody" / "Tuned" / "latest", manifest())
    assert find(Stores(tmp_path / "none", ollama=(models,))) == [
        Found("ollama/llama3.2:1b", blob, "ollama"),
        Found("ollama/somebody/tuned:latest", blob, "ollama"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"layers": 3}',
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model"}]}',
        manifest("sha256:../../../etc/passwd"),
        manifest("sha256:" + "c" * 64),  # no such blob
        manifest(7),
        b" " * (2 << 20) + manifest(),  # larger than any real one
    ],
    ids=range(11),
)
def test_a_damaged_or_hostile_manifest_is_passed_over(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "blobs" / f"sha256-{OLLAMA_DIGEST}")
    put(tmp_path / "manifests" / "registry.ollama.ai" / "library" / "bad" / "1", content)
    put(tmp_path / "manifests" / "registry.ollama.ai" / "library" / "good" / "1", manifest())
    found = find(Stores(tmp_path / "none", ollama=(tmp_path,)))
    assert [each.name for each in found] == ["ollama/good:1"]


def test_llama_cpp(tmp_path: Path) -> None:
    file = put(tmp_path / "ggml-org_Llama-Q8_0.gguf")
    put(tmp_path / "unfinished.gguf.downloadInProgress")
    assert find(Stores(tmp_path / "none", llama_cpp=tmp_path)) == [
        Found("llama.cpp/ggml-org_llama-q8_0", file, "llama.cpp")
    ]


@pytest.mark.parametrize(
    ("platform", "environ", "hub", "ollama", "llama_cpp"),
    [
        ("linux", {}, ".cache/huggingface/hub", ".ollama/models", ".cache/llama.cpp"),
        (
            "linux",
            {"XDG_CACHE_HOME": "/x"},
            "/x/huggingface/hub",
            ".ollama/models",
            "/x/llama.cpp",
        ),
        ("darwin", {}, ".cache/huggingface/hub", ".ollama/models", "Library/Caches/llama.cpp"),
        (
            "win32",
            {"LOCALAPPDATA": "/local"},
            ".cache/huggingface/hub",
            ".ollama/models",
            "/local/llama.cpp",
        ),
        (
            "linux",
            {"HF_HOME": "/hf", "OLLAMA_MODELS": "/o", "LLAMA_CACHE": "/l"},
            "/hf/hub",
            "/o",
            "/l",
        ),
        (
            "linux",
            {"HF_HOME": "/hf", "HF_HUB_CACHE": "/c"},
            "/c",
            ".ollama/models",
            ".cache/llama.cpp",
        ),
    ],
    ids=["linux", "xdg", "mac", "windows", "own-variables", "hub-variable"],
)
def test_where_each_program_keeps_its_models(
    platform: str,
    environ: dict[str, str],
    hub: str,
    ollama: str,
    llama_cpp: str,
) -> None:
    home = Path("/home/me")
    stores = usual(environ, home, platform)
    assert stores.hub == home / hub  # an absolute path stays what it is
    assert stores.ollama[0] == home / ollama
    assert stores.llama_cpp == home / llama_cpp
    assert home / ".lmstudio" / "models" in stores.lm_studio

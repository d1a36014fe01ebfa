"""The model hub: what a repository holds, and one file's bytes from a given place on.

All of Corral's talk with a hub is here, by huggingface_hub's own client (proxies, certificates and
tokens as its users know them). Nothing is sent but the requests for what was asked for. Only the
command `download` uses it, in a process of its own: the app runs with the hub switched off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engine.errors import (
    CheckpointBroken,
    CheckpointGated,
    CheckpointMissing,
    CheckpointUnsafe,
    DownloadDamaged,
    EngineError,
    HubUnreachable,
    QuantizationUnchosen,
    RepositoryHidden,
)
from engine.quantizations import quantizations

# Read by huggingface_hub when it is imported. Its faster protocol can neither be resumed after a
# stop nor cancelled between two blocks.
_ENVIRONMENT = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_TIMEOUT_SECONDS = 20.0
_WANTED = re.compile(r"[\w.-]+\.(safetensors|json|jinja|model|txt|md)|(LICENSE|USE_POLICY|NOTICE)")
_UNWANTED = re.compile(r"consolidated.*\.safetensors|.*adapter.*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file: large ones have the SHA-256 of their bytes, small ones git's SHA-1 of a blob."""

    name: str
    num_bytes: int
    sha256: str = ""
    git_sha1: str = ""

    @property
    def local(self) -> str:
        """What it is called on this disk: parts of a GGUF file may lie in a folder of their own."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit, and those of its files that a model needs."""

    name: str
    commit: str
    files: tuple[RemoteFile, ...]
    gated: bool = False
    licence: str = ""

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)

    @property
    def is_gguf(self) -> bool:
        """Whether the files are one quantization, not a whole folder."""
        return self.files[0].name.endswith(".gguf")


class Hub:
    """A hub at `endpoint` (default: huggingface.co, or `HF_ENDPOINT`), with a token or without."""

    def __init__(self, *, endpoint: str | None = None, token: str | None = None) -> None:
        """Without `token` the one that huggingface_hub knows is used (`HF_TOKEN`, a login)."""
        os.environ.update(_ENVIRONMENT)
        import huggingface_hub

        self._library: Any = huggingface_hub
        self._token = token or None
        self._api: Any = huggingface_hub.HfApi(endpoint=endpoint, token=self._token)

    def look_up(self, name: str, quantization: str = "") -> Repository:
        """What the repository `owner/name` holds now; with `quantization`, its GGUF files of that.

        Raises `RepositoryHidden`, `CheckpointGated`, `CheckpointMissing` (not a whole model),
        `CheckpointUnsafe` (only pickles, or names that leave the folder), `HubUnreachable`, or
        `QuantizationUnchosen` where one of several GGUF files must be chosen.
        """
        with self._translated(name):
            found = self._api.model_info(name, files_metadata=True, timeout=_TIMEOUT_SECONDS)
        files = [_file_of(entry) for entry in found.siblings or ()]
        safetensors = any(file.name.endswith(".safetensors") for file in files)
        if quantization or (not safetensors and any(f.name.endswith(".gguf") for f in files)):
            wanted = _quantized(name, files, quantization)
        else:
            wanted = _whole(name, files)
        card: Mapping[str, Any] = found.card_data or {}
        return Repository(
            name=name,
            commit=str(found.sha),
            files=wanted,
            gated=bool(found.gated),
            licence=str(card.get("license_name") or card.get("license") or ""),
        )

    @contextmanager
    def open(
        self, repository: Repository, file: RemoteFile, offset: int
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The bytes of `file` from `offset` on, in blocks; gives (where they begin, the blocks).

        A server that knows no ranges begins at 0 again. Raises as `look_up` does, in the middle
        of the stream too, and `DownloadDamaged` before it if the hub's ETag names another content.
        """
        url = self._library.hf_hub_url(
            repository.name, file.name, revision=repository.commit, endpoint=self._api.endpoint
        )
        headers = dict(self._library.utils.build_hf_headers(token=self._token))
        headers["Accept-Encoding"] = "identity"
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with self._translated(repository.name):
            client = self._library.get_session()
            with client.stream("GET", url, headers=headers, timeout=_TIMEOUT_SECONDS) as response:
                self._library.utils.hf_raise_for_status(response)
                _check_etag(repository, file, [*response.history, response][0].headers)
                yield (offset if response.status_code == 206 else 0), response.iter_bytes(1 << 17)

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        errors = self._library.errors
        try:
            yield
        except EngineError:
            raise
        except errors.OfflineModeIsEnabled as error:
            raise HubUnreachable(
                "Downloads are switched off here: HF_HUB_OFFLINE is set. Unset it and try again."
            ) from error
        except errors.GatedRepoError as error:
            raise CheckpointGated(_gated(name, self._api.endpoint)) from error
        except errors.HFValidationError as error:
            raise RepositoryHidden(
                f"{name!r} is not the name of a repository: owner/name was expected."
            ) from error
        except errors.HfHubHTTPError as error:
            raise _refusal(name, error) from error
        except OSError:
            raise
        except Exception as error:
            if not is_transport(error):
                raise
            raise HubUnreachable(
                f"The model hub does not answer ({type(error).__name__}). Check the network and "
                "try again; what was downloaded is kept."
            ) from error


def _whole(name: str, files: list[RemoteFile]) -> tuple[RemoteFile, ...]:
    """The files of a model in the layout of Hugging Face."""
    names = {file.name for file in files}
    if not any(each.endswith(".safetensors") for each in names):
        pickles = any(each.endswith((".bin", ".pt", ".pth")) for each in names)
        raise CheckpointUnsafe(
            f"{name} has no safetensors files"
            + (", only pickles, which can run code when loaded" if pickles else "")
            + ". Choose a repository with *.safetensors or *.gguf."
        )
    if "config.json" not in names:
        raise CheckpointMissing(f"{name} has no config.json: it is not a whole model.")
    return tuple(f for f in files if _WANTED.fullmatch(f.name) and not _UNWANTED.match(f.name))


def _quantized(name: str, files: list[RemoteFile], wanted: str) -> tuple[RemoteFile, ...]:
    """The GGUF files of one quantization: of the wanted one, or of the only one."""
    found = quantizations(files)
    for each, parts in found.items():
        if each.name.lower() == wanted.lower() or (len(found) == 1 and not wanted):
            return tuple(parts)
    readable = [(each.name, each.num_bytes) for each in found if each.readable]
    if not readable:
        raise CheckpointMissing(f"{name} has no GGUF file in a quantization that Corral reads.")
    names = ", ".join(f"{each} ({size / 1e9:.1f} GB)" for each, size in readable)
    best = readable[len(readable) // 2][0]
    raise QuantizationUnchosen(
        f"{name} holds its model in {len(readable)} quantizations: {names}. Name one behind a "
        f"colon, as in {name}:{best}.",
        readable,
    )


def _check_etag(repository: Repository, file: RemoteFile, headers: Mapping[str, str]) -> None:
    """The hub names each large file by its SHA-256, before the first byte is sent."""
    named = headers.get("x-linked-etag") or headers.get("etag") or ""
    named = named.removeprefix("W/").strip('"')
    if file.sha256 and _SHA256.fullmatch(named) and named != file.sha256:
        raise DownloadDamaged(
            f"The hub announces another {file.name} of {repository.name} than it lists. Try again "
            "later."
        )


def _refusal(name: str, error: Any) -> EngineError:
    status = error.response.status_code if error.response is not None else 0
    if status in (401, 403, 404):
        return RepositoryHidden(
            f"The hub shows no {name} to you ({status}): check the name, or give a token that may "
            "read it."
        )
    if status == 416:
        return CheckpointBroken(f"A file of {name} is shorter than what was downloaded of it.")
    return HubUnreachable(f"The model hub cannot serve {name} now ({status}). Try again later.")


def _gated(name: str, endpoint: str) -> str:
    return (
        f"{name} is gated: its owner wants you to accept a licence. Open {endpoint}/{name} in a "
        f"browser and accept it, make a token with read access at {endpoint}/settings/tokens, and "
        "give it with --token-file FILE or in HF_TOKEN."
    )


def is_transport(error: Exception) -> bool:
    """Whether a client's error is about the way to the server (httpx and its successor)."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def _file_of(entry: Any) -> RemoteFile:
    name, size = str(entry.rfilename), entry.size
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\:\x00-\x1f]", name):
        raise CheckpointUnsafe(f"The repository names a file {name!r}, which leaves its folder.")
    lfs = entry.lfs or {}
    sha256, sha1 = str(lfs.get("sha256") or ""), str(entry.blob_id or "")
    return RemoteFile(
        name,
        int(size) if isinstance(size, int) and size >= 0 else 0,
        sha256 if _SHA256.fullmatch(sha256) else "",
        sha1 if _SHA1.fullmatch(sha1) and not sha256 else "",
    )

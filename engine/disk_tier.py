"""Keys and values on the disk, so that a conversation opened after a restart is not read again.

They are kept in pieces of `PIECE` tokens, one safetensors file each: a turn adds the pieces that it
filled, and what is written once is never written again. A piece is named by a digest of everything
that decides what is in it: the model with its precision and rotary scaling, the adapter, and all
token ids from the beginning to its end. Branches and copies of a conversation so find the trunk
that they share, but only within one owner.

The compute thread copies pieces out and reads them in; a thread of its own writes. A file that is
damaged, or not what its name says, is removed and what it held is read again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue

import torch
from safetensors.torch import save
from torch import Tensor

from engine.device import is_out_of_memory
from engine.errors import CheckpointError
from engine.formats.safetensors import read_header
from engine.kept_files import MEMORY_ONLY, SUFFIX, place_of, remove_kept
from engine.kv_cache import Slot
from engine.prefix import Key, covers, owner_of

log = logging.getLogger(__name__)

PIECE = 128  # tokens; at most so many, less one, are read again after a restart

# Copies that wait to be written. What finds no place is written after the next turn.
_MOST_PENDING_BYTES = 256 << 20


class DiskTier:
    """Pieces of conversations under `folder`, within `max_bytes`, least recently used out first."""

    def __init__(self, folder: Path, identity: str, max_bytes: int) -> None:
        """`identity` names the model, its precision and its rotary scaling."""
        self.max_bytes = max_bytes
        self._folder, self._identity = folder, identity.encode()
        self._known: dict[str, dict[str, Path]] = {}  # owner → digest → file
        self._pending: dict[str, int] = {}  # digest → bytes that wait to be written
        self._num_bytes = 0
        self._full = False
        self._lock = threading.Lock()  # over the four above
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._scan()
        self._thread = threading.Thread(target=self._work, name="corral-kept", daemon=True)
        self._thread.start()

    @property
    def num_bytes(self) -> int:
        """Bytes on the disk, of all models."""
        return self._num_bytes

    # --- called by the compute thread ---

    def keep(self, slot: Slot) -> None:
        """Copy the whole pieces of `slot` that are not kept yet, and have them written.

        Where there is no memory for a copy, the rest is written after the next turn.
        """
        place = place_of(self._folder, slot.scope)
        if place is None or self._full:
            return
        key = Key.of(slot)
        for at, digest in enumerate(self._digests(key, slot.ids)):
            with self._lock:
                waiting = sum(self._pending.values())
                if digest in self._pending or digest in self._known.get(key.owner, ()):
                    continue
                if waiting > _MOST_PENDING_BYTES:
                    return
            start, end = at * PIECE, (at + 1) * PIECE
            try:
                device = slot.shape.device
                parts = [layer[:, start:end].to(device) for layer in slot.layers]
                content = torch.stack(parts).cpu()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                log.warning("no memory to copy a conversation's keys and values to the disk")
                return
            with self._lock:
                self._pending[digest] = PIECE * slot.shape.token_bytes
            ids = slot.ids[start:end]
            self._jobs.put(lambda p=place, d=digest, i=ids, c=content: self._write(p, d, i, c))  # type: ignore[misc]

    def find(self, key: Key, ids: Sequence[int]) -> list[tuple[str, Path]]:
        """The pieces (digest, file) that hold the beginning of `ids`, in order.

        The last token is left to read, because its logits are needed.
        """
        if place_of(self._folder, key.scope) is None:
            return []
        found: list[tuple[str, Path]] = []
        with self._lock:
            known = self._known.get(key.owner, {})
            for digest in self._digests(key, ids[:-1]):
                if digest not in known:
                    break
                found.append((digest, known[digest]))
        return found

    def load(self, slot: Slot, ids: Sequence[int], digest: str, path: Path) -> bool:
        """Put the piece that `slot` ends in into it → whether it was sound.

        `ids` are the row's tokens; the slot has room.
        """
        start = slot.length // PIECE * PIECE
        end = start + PIECE
        try:
            content = self._read(path, digest, ids[start:end], slot)
        except (CheckpointError, OSError, ValueError):
            return False
        for layer, values in zip(slot.layers, content, strict=True):
            layer[:, start:end].copy_(values)
        slot.ids[start:] = ids[start:end]
        return True

    def lose(self, scope: str, pieces: Sequence[tuple[str, Path]]) -> None:
        """Remove pieces of which the first is not sound: what is read again is written again."""
        log.warning("a kept piece of a conversation is damaged and is removed")
        for digest, path in pieces:
            path.unlink(missing_ok=True)
            with self._lock:
                self._known.get(owner_of(scope), {}).pop(digest, None)
        self._count()

    # --- called by any thread ---

    def forget(self, scope: str) -> None:
        """Remove what is kept for `scope`, or for all scopes under it; returns when it is gone."""
        if not scope.startswith(MEMORY_ONLY):
            self._wait_for(lambda: self._remove(scope))

    def flush(self) -> None:
        """Return when all that was handed in is written."""
        self._wait_for(lambda: None)

    def close(self) -> None:
        """Write what waits and end the thread. May be repeated."""
        self._jobs.put(None)
        self._thread.join()

    def _wait_for(self, job: Callable[[], None]) -> None:
        if not self._thread.is_alive():
            job()
            return
        done: Future[None] = Future()

        def run() -> None:
            try:
                job()
            finally:
                done.set_result(None)

        self._jobs.put(run)
        done.result()

    # --- names ---

    def _digests(self, key: Key, ids: Sequence[int]) -> Iterator[str]:
        """One for each whole piece of `ids`."""
        digest = hashlib.blake2b(self._identity, digest_size=20)
        digest.update(f"{key.stretch}|{key.adapter}|".encode())
        for end in range(PIECE, len(ids) + 1, PIECE):
            digest.update(array("q", ids[end - PIECE : end]).tobytes())
            yield digest.copy().hexdigest()

    def _scan(self) -> None:
        for path in self._folder.glob(f"*/*/*{SUFFIX}"):
            self._known.setdefault(path.parent.parent.name, {})[path.stem] = path
            self._num_bytes += path.stat().st_size
        for left in self._folder.glob("*/*/*.part"):  # of a Corral that was killed
            left.unlink(missing_ok=True)

    # --- files ---

    def _read(self, path: Path, digest: str, ids: Sequence[int], slot: Slot) -> Tensor:
        """The piece (L, 2G, PIECE, entry). Raises `CheckpointBroken`, `OSError` or `ValueError`."""
        specs, _ = read_header(path)
        if set(specs) != {"ids", "kept", "check"}:
            raise ValueError("other tensors than a piece has")
        shape = slot.shape
        expected = (shape.num_layers, 2 * shape.num_kv_heads, PIECE, shape.entry)
        if specs["kept"].shape != expected or specs["kept"].dtype != shape.dtype:
            raise ValueError("another shape")
        content = specs["kept"].read()
        stored = bytes(specs["check"].read().numpy())
        same = specs["ids"].read().tolist() == list(ids)
        if not same or stored != _check(digest, content):
            raise ValueError("another content")
        os.utime(path.parent)
        return content

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _write(self, place: Path, digest: str, ids: Sequence[int], content: Tensor) -> None:
        try:
            data = save(
                {
                    "ids": torch.tensor(ids, dtype=torch.int64),
                    "kept": content,
                    "check": torch.frombuffer(
                        bytearray(_check(digest, content)), dtype=torch.uint8
                    ),
                }
            )
            if self._make_room(len(data), place):
                self._put(place, digest, data)
        except OSError as error:
            log.warning("keys and values are not kept on the disk any more: %s", error.strerror)
            self._full = True
        finally:
            with self._lock:
                self._pending.pop(digest, None)

    def _put(self, place: Path, digest: str, data: bytes) -> None:
        for folder in (self._folder, place.parent, place):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, part = place / f"{digest}{SUFFIX}", place / f"{digest}.part"
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        part.replace(path)
        with self._lock:
            self._known.setdefault(place.parent.name, {})[digest] = path
            self._num_bytes += len(data)

    def _make_room(self, num_bytes: int, place: Path) -> bool:
        """Remove conversations that were not used for longest → whether `num_bytes` more fit."""
        if self._num_bytes + num_bytes <= self.max_bytes:
            return True
        others = [other for other in self._folder.glob("*/*") if other.is_dir() and other != place]
        for other in sorted(others, key=lambda each: each.stat().st_mtime):
            self._remove(f"{other.parent.name}/{other.name}")
            if self._num_bytes + num_bytes <= self.max_bytes:
                return True
        return False

    def _remove(self, scope: str) -> None:
        remove_kept(self._folder, scope)
        with self._lock:
            for owner, pieces in self._known.items():
                for digest, path in list(pieces.items()):
                    if covers(scope, f"{owner}/{path.parent.name}"):
                        del pieces[digest]
        self._count()

    def _count(self) -> None:
        sizes = [path.stat().st_size for path in self._folder.glob(f"*/*/*{SUFFIX}")]
        with self._lock:
            self._num_bytes = sum(sizes)


def _check(digest: str, content: Tensor) -> bytes:
    """What tells a sound piece from a damaged or a foreign one."""
    values = content.contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(values.data, key=digest.encode(), digest_size=32).digest()

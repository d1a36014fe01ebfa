"""The running Corral of a data folder, as a second start finds it.

`run.json` (0600) names the process, its address and a secret. Whoever can read the folder can ask
with that secret for a new one-time address; nobody else can.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from app.routes import HEALTH, LAUNCH

FILE = "run.json"
ASK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Instance:
    """What `run.json` says."""

    pid: int
    port: int
    url: str
    secret: str
    started_at: float


def write(folder: Path, *, port: int, secret: str) -> Path:
    """Tell later starts where this one is. Raises `OSError`."""
    found = Instance(os.getpid(), port, f"http://127.0.0.1:{port}", secret, time.time())
    path, fresh = folder / FILE, folder / f"{FILE}.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)  # private before anything is in it
    fresh.write_text(json.dumps(asdict(found)), encoding="utf-8")
    fresh.replace(path)
    return path


def read(folder: Path) -> Instance | None:
    """What `run.json` says, if there is one that can be read."""
    try:
        found = Instance(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    sound = isinstance(found.port, int) and 0 < found.port < 65536 and isinstance(found.secret, str)
    return found if sound else None


def remove(folder: Path, secret: str) -> None:
    """Take back our own `run.json`; that of another start stays."""
    found = read(folder)
    if found is not None and found.secret == secret:
        (folder / FILE).unlink(missing_ok=True)


def new_address(folder: Path) -> str | None:
    """A one-time address from the Corral that runs on this data folder; None if none answers."""
    found = read(folder)
    if found is None:
        return None
    headers = {"Authorization": f"Bearer {found.secret}"}
    try:
        # No proxy of the environment: this is this machine.
        with httpx.Client(trust_env=False, timeout=ASK_SECONDS) as client:
            answer = client.post(f"http://127.0.0.1:{found.port}{LAUNCH}", headers=headers)
        url = answer.json().get("url") if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError, AttributeError):
        return None
    return url if isinstance(url, str) else None


def is_corral(port: int) -> bool:
    """Whether what listens on a port of this machine is a Corral."""
    try:
        with httpx.Client(trust_env=False, timeout=ASK_SECONDS) as client:
            answer = client.get(f"http://127.0.0.1:{port}{HEALTH}")
            return answer.status_code == 200 and answer.json() == "ok"
    except (httpx.HTTPError, ValueError):
        return False


def listen(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1 alone. Raises `OSError` if the port is taken."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # there SO_REUSEADDR would let two programs share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        made.listen(128)
    except OSError:
        made.close()
        raise
    made.set_inheritable(False)
    return made

"""The environment Corral runs in, fixed before anything of it is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from app.closed import closed
from launch.place import ROOT

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Gradio reads settings of its own from the environment (sharing, host, file paths ...), and each
# would override ours; Python's own would lead imports elsewhere or compile at every start.
DROPPED_PREFIXES = ("GRADIO_",)
DROPPED = frozenset(
    {"PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
)


def clean_environment(data: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`environ` without what would override Corral, with what keeps it to this machine."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in DROPPED and not name.upper().startswith(DROPPED_PREFIXES)
    }
    bypass = {name: _with_loopback(kept.get(name, "")) for name in ("NO_PROXY", "no_proxy")}
    return {
        **kept,
        **bypass,
        **closed(data),
        # Idle compute threads sleep instead of spinning beside the server.
        "OMP_WAIT_POLICY": "PASSIVE",
        # glibc: one heap for all threads, of which all that is free can be returned.
        "MALLOC_ARENA_MAX": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }


def _with_loopback(names: str) -> str:
    """A proxy bypass list that also names this machine."""
    given = [name.strip() for name in names.split(",") if name.strip()]
    return ",".join([*given, *(name for name in LOOPBACK if name not in given)])

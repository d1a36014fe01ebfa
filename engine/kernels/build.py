"""Compile `step.c` once, for this processor, and keep the library beside the installed packages.

Where there is no compiler, or the library fails to build or to load, `load` gives None and torch's
own kernels are used. The code is compiled with OpenMP but not linked to a runtime: torch has put
its own into the process for all to see (`libtorch_global_deps`), and one team of threads is enough.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("step.c")  # includes the headers beside it
_FLAGS = ("-O3", "-fno-math-errno", "-fopenmp", "-fPIC", "-std=gnu11")
_SECONDS = 120


def load(
    folder: Path | None = None, *, flags: Sequence[str] = ("-march=native",)
) -> ctypes.CDLL | None:
    """The library, built first if need be; None where that is not possible. May take seconds.

    `folder` is where built libraries are kept: by default a folder of the virtual environment, so
    that it goes when Corral goes; outside of one nothing is built. `flags` name the processor.
    """
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")
    if folder is None and sys.prefix != sys.base_prefix:
        folder = Path(sys.prefix) / "corral-kernels"
    if sys.platform != "linux" or compiler is None or folder is None:
        return None
    try:
        command = (compiler, *_FLAGS, *flags)
        path = folder / f"step-{_fingerprint(command)}.so"
        if not path.exists():
            _compile(command, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("own kernels are not used: %s", type(error).__name__)
        return None


def _fingerprint(command: Sequence[str]) -> str:
    """Names source, flags, compiler and processor: a library built for another one must not run."""
    digest = hashlib.sha256()
    for source in sorted(SOURCE.parent.glob("*.[ch]")):
        digest.update(source.read_bytes())
    digest.update(" ".join((*command, platform.machine())).encode())
    version = subprocess.run(
        [command[0], "--version"], capture_output=True, timeout=_SECONDS, check=True
    )
    digest.update(version.stdout)
    digest.update(_processor())
    return digest.hexdigest()[:16]


def _processor() -> bytes:
    """The instruction sets of the processor, as the kernel lists them."""
    for line in Path("/proc/cpuinfo").read_bytes().splitlines():
        if line.startswith((b"flags", b"Features")):
            return line
    return b""


def _compile(command: Sequence[str], path: Path) -> None:
    """Build `path`; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        compiled, linked = Path(place) / "step.o", Path(place) / "step.so"
        for arguments in (
            (*command, "-c", str(SOURCE), "-o", str(compiled)),
            (command[0], "-shared", str(compiled), "-o", str(linked), "-lm"),
        ):
            subprocess.run(arguments, capture_output=True, timeout=_SECONDS, check=True)
        linked.replace(path)

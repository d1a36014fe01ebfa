"""Compile `step.c` once, for this processor, and keep the library beside the installed packages.

Where there is no compiler, or the library fails to build or to load, `load` gives None, the log
says why, and torch's own kernels are used. The code is compiled with OpenMP but brings no runtime.
On Linux torch has put its own into the process for all to see (`libtorch_global_deps`); on macOS
the library is linked to the very file that torch has loaded: one team of threads is enough. On
Windows there is seldom a compiler that knows the vectors of this code, so nothing is built.
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

import torch

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("step.c")  # includes the headers beside it
_FLAGS = ("-O3", "-fno-math-errno", "-fPIC", "-std=gnu11")
_SECONDS = 120
_UNUSED = "own kernels are not used, torch's are: %s"
# What builds the code, by operating system: options for OpenMP, for a library, and its ending.
# Apple's clang takes OpenMP from its preprocessor only, as it has no runtime of its own.
_SYSTEMS = {
    "linux": (("-fopenmp",), ("-shared",), ".so"),
    "darwin": (("-Xpreprocessor", "-fopenmp"), ("-dynamiclib",), ".dylib"),
}


def load(folder: Path | None = None, *, flags: Sequence[str] | None = None) -> ctypes.CDLL | None:
    """The library, built first if need be; None where that is not possible. May take seconds.

    `folder` is where built libraries are kept: by default a folder of the virtual environment, so
    that it goes when Corral goes; outside of one nothing is built. `flags` name the processor,
    by default this one.
    """
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")
    if folder is None and sys.prefix != sys.base_prefix:
        folder = Path(sys.prefix) / "corral-kernels"
    if reason := _missing(compiler, folder):
        log.warning(_UNUSED, reason)
        return None
    assert compiler is not None and folder is not None
    openmp, _, ending = _SYSTEMS[sys.platform]
    try:
        command = (compiler, *_FLAGS, *openmp, *(this_processor() if flags is None else flags))
        path = folder / f"step-{_fingerprint(command)}{ending}"
        if not path.exists():
            _compile(command, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning(_UNUSED, f"{type(error).__name__} while they were built")
        return None


def _missing(compiler: str | None, folder: Path | None) -> str:
    """Why nothing can be built, if so."""
    if sys.platform not in _SYSTEMS:
        return f"they are not built on {sys.platform}"
    if compiler is None:
        return "there is no C compiler"
    return "" if folder else "there is no virtual environment to keep them in"


def this_processor(system: str = sys.platform, machine: str | None = None) -> tuple[str, ...]:
    """The option that names this processor; `machine` as `platform.machine()` has it.

    Compilers name it differently: clang on ARM knows `-mcpu` only, and Apple's not always "native".
    """
    machine = machine or platform.machine()
    if machine not in ("arm64", "aarch64"):
        return ("-march=native",)
    return ("-mcpu=apple-m1",) if system == "darwin" else ("-mcpu=native",)


def _runtime() -> tuple[str, ...]:
    """What the library is linked to besides the system: on macOS torch's own OpenMP."""
    if platform.system() != "Darwin":
        return ()
    folder = Path(torch.__file__).parent / "lib"
    return (str(folder / "libomp.dylib"), f"-Wl,-rpath,{folder}")


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
    """The instruction sets of the processor, as Linux lists them; elsewhere its name."""
    if platform.system() != "Linux":
        return platform.processor().encode()
    for line in Path("/proc/cpuinfo").read_bytes().splitlines():
        if line.startswith((b"flags", b"Features")):
            return line
    return b""


def _compile(command: Sequence[str], path: Path) -> None:
    """Build `path`; it appears whole or not at all."""
    library = _SYSTEMS[sys.platform][1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        compiled, linked = Path(place) / "step.o", Path(place) / "step.so"
        for arguments in (
            (*command, "-c", str(SOURCE), "-o", str(compiled)),
            (command[0], *library, str(compiled), "-o", str(linked), *_runtime(), "-lm"),
        ):
            subprocess.run(arguments, capture_output=True, timeout=_SECONDS, check=True)
        linked.replace(path)

"""What this machine is, whether Corral can run on it, and which build of torch fits.

The builds are those of PyTorch 2.13: CPU, CUDA 12.6 (the last for GPUs before Turing) and CUDA 13.0
for Linux and Windows, Metal for Apple silicon (PyTorch's RELEASE.md, "CUDA support matrix").
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from launch.place import Problem

TORCH_VERSION = "2.13.0"
TORCH_INDEX = "https://download.pytorch.org/whl/"
CUDA_13_DRIVER = 580  # CUDA 13.0 release notes: the driver branch it needs
CUDA_12_DRIVER = {"linux": 525, "win32": 528}  # minor-version compatibility of all CUDA 12
TURING, BLACKWELL = (
    7.5,
    10.0,
)  # compute capabilities: below the first no CUDA 13, from the second no 12.6


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts that decide which packages fit."""

    platform: str  # sys.platform
    processor: str  # of this Python: x86_64, arm64 ...
    bits: int = 64
    system_version: tuple[int, ...] = ()  # macOS release or glibc version; () where unknown
    musl: bool = False
    rosetta: bool = False
    driver: int | None = None  # NVIDIA driver branch, None without a working one
    capability: float = 0.0  # of the best NVIDIA GPU


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """One build of torch, where it comes from and why it was chosen."""

    name: str  # cpu, cu126, cu130, mps
    reason: str
    index: str | None  # None: the index that pip is configured with
    megabytes: int  # what it takes on the disk, pip's copy of the download included

    @property
    def requirement(self) -> str:
        """For the build's own index, where the version carries the build's name."""
        return f"torch=={TORCH_VERSION}" + (f"+{self.name}" if self.index else "")

    @property
    def fallback(self) -> str:
        """For any other index."""
        return f"torch=={TORCH_VERSION}"


def examine() -> Machine:
    """Look at this machine. Takes up to ten seconds where an NVIDIA driver hangs, else little."""
    names = {"amd64": "x86_64", "aarch64": "arm64"}
    processor = sysconfig.get_platform().split("-")[-1] if sys.platform == "win32" else ""
    processor = (processor or platform.machine()).lower()
    version = platform.mac_ver()[0] if sys.platform == "darwin" else platform.libc_ver()[1]
    driver, capability = _nvidia()
    return Machine(
        platform=sys.platform,
        processor=names.get(processor, processor),
        bits=64 if sys.maxsize > 2**32 else 32,
        system_version=tuple(int(part) for part in version.split(".") if part.isdigit()),
        musl=sys.platform == "linux" and platform.libc_ver()[0] != "glibc",
        rosetta=sys.platform == "darwin"
        and _output("sysctl", "-n", "sysctl.proc_translated") == "1",
        driver=driver,
        capability=capability,
    )


def _output(*command: str) -> str:
    """What a command prints, or nothing where it is missing, fails or hangs."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        run = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.strip()


def _nvidia() -> tuple[int | None, float]:
    lines = _output("nvidia-smi", "--query-gpu=driver_version,compute_cap", "--format=csv,noheader")
    return read_nvidia(lines)


def read_nvidia(lines: str) -> tuple[int | None, float]:
    """Driver branch and best capability from lines such as `580.65.06, 9.0`."""
    driver, best = None, 0.0
    for line in lines.splitlines():
        version, _, capability = (part.strip() for part in line.partition(","))
        try:
            driver, best = int(version.split(".")[0]), max(best, float(capability))
        except ValueError:
            continue
    return driver, best


def refuse_unsupported(machine: Machine) -> None:
    """Raise `Problem` where no packages exist for this machine."""
    if machine.bits != 64:
        raise Problem("This is a 32-bit Python. Install a 64-bit Python and run this again.")
    if machine.platform == "darwin":
        _refuse_mac(machine)
    elif machine.platform == "linux":
        _refuse_linux(machine)
    elif machine.platform == "win32":
        if machine.processor != "x86_64":
            raise Problem(
                "There are no packages for a Windows Python on ARM. Install the 64-bit Intel "
                "version of Python from python.org: it runs on this machine too."
            )
    else:
        raise Problem(f"Corral runs on Linux, macOS and Windows, not on {machine.platform}.")


def _refuse_mac(machine: Machine) -> None:
    if machine.rosetta:
        raise Problem(
            "This Python is made for Intel and runs under Rosetta. Install an Apple silicon "
            "Python (python.org or Homebrew in /opt/homebrew) and run this again with it."
        )
    if machine.processor != "arm64":
        raise Problem(
            "Corral cannot run on an Intel Mac: PyTorch has made no packages for them since 2.3. "
            "It runs on Macs with Apple silicon, on Linux and on Windows."
        )
    if machine.system_version and machine.system_version < (14,):
        shown = ".".join(str(part) for part in machine.system_version)
        raise Problem(f"Corral needs macOS 14 or newer; this is {shown}. Update macOS first.")


def _refuse_linux(machine: Machine) -> None:
    if machine.processor not in {"x86_64", "arm64"}:
        raise Problem(
            f"PyTorch makes no packages for Linux on {machine.processor}: a 64-bit Intel, AMD or "
            "ARM machine is needed."
        )
    if machine.musl or (machine.system_version and machine.system_version < (2, 28)):
        raise Problem(
            "PyTorch's packages need glibc 2.28 or newer (Debian 10, Ubuntu 20.04, Fedora 29 or "
            "later; not Alpine). Run Corral on such a system or in a container of one."
        )


def choose_torch(machine: Machine) -> TorchBuild:
    """The build that is fastest on this machine. Raises `Problem` where there is none."""
    refuse_unsupported(machine)
    if machine.platform == "darwin":
        return TorchBuild("mps", "Apple silicon: the build with Metal", None, 700)
    cpu = TORCH_INDEX + "cpu"
    if machine.driver is None:
        return TorchBuild("cpu", "no NVIDIA driver answers: the CPU build", cpu, 1200)
    if machine.driver >= CUDA_13_DRIVER and machine.capability >= TURING:
        reason = f"NVIDIA driver {machine.driver}: the CUDA 13.0 build"
        return TorchBuild("cu130", reason, TORCH_INDEX + "cu130", 5500)
    if machine.driver >= CUDA_12_DRIVER[machine.platform] and machine.capability < BLACKWELL:
        reason = f"NVIDIA driver {machine.driver}: the CUDA 12.6 build"
        return TorchBuild("cu126", reason, TORCH_INDEX + "cu126", 5500)
    reason = (
        f"NVIDIA driver {machine.driver} is too old for this GPU: the CPU build for now. "
        f"With driver {CUDA_13_DRIVER} or newer, `python3 launcher.py update` takes the GPU build"
    )
    return TorchBuild("cpu", reason, cpu, 1200)


def refuse_full_disk(folder: Path, needed_mb: int) -> int:
    """The megabytes that are free. Raises `Problem` where the packages would not fit."""
    free_mb = shutil.disk_usage(folder).free // 2**20
    if free_mb < needed_mb:
        raise Problem(
            f"The packages need {needed_mb / 1000:.1f} GB and {folder} has {free_mb / 1000:.1f} GB "
            "free. Make room and run this again; what is already there is kept."
        )
    return free_mb

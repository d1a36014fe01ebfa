"""Which build of torch a machine gets, and which machines are refused with a sentence."""

from dataclasses import replace
from pathlib import Path

import pytest

from launch import machine
from launch.machine import Machine, choose_torch, read_nvidia, refuse_full_disk
from launch.place import Problem

LINUX = Machine("linux", "x86_64", system_version=(2, 36))
WINDOWS = Machine("win32", "x86_64")
MAC = Machine("darwin", "arm64", system_version=(15, 1))


@pytest.mark.parametrize(
    ("here", "name", "index_end"),
    [
        (LINUX, "cpu", "/cpu"),
        (replace(LINUX, processor="arm64"), "cpu", "/cpu"),
        (replace(LINUX, driver=580, capability=9.0), "cu130", "/cu130"),
        (replace(LINUX, driver=595, capability=12.0), "cu130", "/cu130"),
        (replace(LINUX, driver=595, capability=6.1), "cu126", "/cu126"),  # Pascal: no CUDA 13
        (replace(LINUX, driver=550, capability=8.6), "cu126", "/cu126"),
        (replace(LINUX, driver=470, capability=8.6), "cpu", "/cpu"),
        (replace(LINUX, driver=570, capability=12.0), "cpu", "/cpu"),  # Blackwell: no CUDA 12.6
        (WINDOWS, "cpu", "/cpu"),
        (replace(WINDOWS, driver=581, capability=8.9), "cu130", "/cu130"),
        (replace(WINDOWS, driver=527, capability=8.9), "cpu", "/cpu"),
        (replace(WINDOWS, driver=531, capability=8.9), "cu126", "/cu126"),
    ],
)
def test_the_build_follows_system_driver_and_gpu(here: Machine, name: str, index_end: str) -> None:
    build = choose_torch(here)
    assert build.name == name
    assert build.index is not None
    assert build.index.endswith(index_end)
    assert build.requirement == f"torch=={machine.TORCH_VERSION}+{name}"
    assert build.fallback == f"torch=={machine.TORCH_VERSION}"


def test_apple_silicon_takes_the_plain_build() -> None:
    build = choose_torch(MAC)
    assert (build.name, build.index) == ("mps", None)
    assert build.requirement == build.fallback


@pytest.mark.parametrize("old", [replace(LINUX, driver=470, capability=8.6)])
def test_an_old_driver_is_told_what_would_help(old: Machine) -> None:
    assert "driver 580 or newer" in choose_torch(old).reason


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (replace(MAC, processor="x86_64"), "Intel Mac"),
        (replace(MAC, processor="x86_64", rosetta=True), "Rosetta"),
        (replace(MAC, system_version=(13, 6)), "macOS 14"),
        (replace(LINUX, system_version=(2, 27)), "glibc 2.28"),
        (replace(LINUX, musl=True), "Alpine"),
        (replace(LINUX, processor="armv7l"), "armv7l"),
        (replace(LINUX, bits=32), "64-bit Python"),
        (replace(WINDOWS, processor="arm64"), "python.org"),
        (Machine("freebsd14", "x86_64"), "Linux, macOS and Windows"),
    ],
)
def test_a_machine_without_packages_is_refused_with_a_sentence(here: Machine, said: str) -> None:
    with pytest.raises(Problem, match=said):
        choose_torch(here)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("580.65.06, 9.0", (580, 9.0)),
        ("595.58.03, 6.1\n595.58.03, 8.9\n", (595, 8.9)),
        ("", (None, 0.0)),
        ("NVIDIA-SMI has failed because it couldn't communicate with the driver.", (None, 0.0)),
        ("580.65.06, [N/A]", (None, 0.0)),
    ],
)
def test_what_the_driver_answers_is_read(lines: str, expected: tuple[int | None, float]) -> None:
    assert read_nvidia(lines) == expected


def test_this_machine_is_examined() -> None:
    here = machine.examine()
    assert here.bits in (32, 64)
    assert here.processor not in ("", "amd64", "aarch64")  # one name each


def test_a_full_disk_is_named_before_anything_is_fetched(tmp_path: Path) -> None:
    refuse_full_disk(tmp_path, 0)
    with pytest.raises(Problem, match="Make room"):
        refuse_full_disk(tmp_path, 10**9)

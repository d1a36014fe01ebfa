"""The data folder: private, on a local disk, and written by one Corral at a time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from storage.records import DatabaseBusy, FolderUnwritable

DATABASE = "corral.db"
LOCK = "corral.lock"
BALLAST = "ballast"
BACKUPS = "backups"
SUSPECT = "check-at-start"  # while this file is there, the next start checks everything

# SQLite's WAL needs shared memory between the processes that open the file, which these lack.
_NETWORK_TYPES = frozenset(
    {
        "nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afpfs", "afs", "ncpfs",
        "webdav", "davfs", "davfs2", "fuse.sshfs", "fuse.rclone", "fuse.davfs2", "fuse.s3fs",
        "fuse.glusterfs", "fuse.gvfsd-fuse", "glusterfs", "ceph", "lustre", "beegfs", "drvfs",
    }
)  # fmt: skip
_OCTAL = re.compile(r"\\([0-7]{3})")  # how mountinfo writes a space: \040


def prepare(folder: Path) -> None:
    """Make the folder (0700) and see that it can be used. Raises `FolderUnwritable`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(OSError):  # a folder of somebody else's, or a filesystem without modes
            folder.chmod(0o700)
        probe = folder / f".write-test-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise FolderUnwritable(
            f"The data folder {folder} cannot be written to ({error.strerror}). "
            "Check its permissions, or choose another with --data DIR."
        ) from error
    if kind := network_type(folder):
        raise FolderUnwritable(
            f"The data folder {folder} lies on a network drive ({kind}), where a database can be "
            "damaged. Choose a folder on this machine's own disk with --data DIR."
        )


def make_private(path: Path) -> None:
    """Create `path` empty with mode 0600 if it is not there: SQLite's WAL takes over the mode.

    Raises `FolderUnwritable` for a file that is not ours, as a start with sudo leaves behind.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise FolderUnwritable(
            f"{path} cannot be written to ({error.strerror}). Check whose file it is, "
            "or choose another folder with --data DIR."
        ) from error
    with suppress(OSError):
        path.chmod(0o600)


class FolderLock:
    """Held by the one process that writes to a data folder; the system frees it when it dies."""

    def __init__(self, folder: Path) -> None:
        make_private(folder / LOCK)
        self._file: BinaryIO = (folder / LOCK).open("a+b")
        try:
            _lock(self._file)
        except OSError as error:
            self._file.close()
            raise DatabaseBusy(
                f"Another Corral already uses the data folder {folder}. "
                "Use its page, stop it, or choose another folder with --data DIR."
            ) from error

    def release(self) -> None:
        self._file.close()


def network_type(folder: Path) -> str:
    """The kind of network filesystem that `folder` lies on; "" for a local one or if unknown."""
    folder = folder.resolve()
    if sys.platform == "win32":
        return _windows_network_type(folder)
    kind = _mount_type(folder, _mounts())
    return kind if kind in _NETWORK_TYPES else ""


def _mount_type(folder: Path, mounts: list[tuple[Path, str]]) -> str:
    """The type of the deepest, last-mounted mount point above `folder`."""
    above = [(len(point.parts), n, kind) for n, (point, kind) in enumerate(mounts)
             if folder == point or point in folder.parents]  # fmt: skip
    return max(above)[2] if above else ""


def _mounts() -> list[tuple[Path, str]]:
    if sys.platform == "darwin":
        return _macos_mounts()
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [mount for line in lines if (mount := _mountinfo(line))]


def _mountinfo(line: str) -> tuple[Path, str] | None:
    """Mount point and type of a line of mountinfo; WSL's Windows drives count as "drvfs"."""
    head, _, tail = line.partition(" - ")
    fields, rest = head.split(" "), tail.split(" ")
    if len(fields) < 5 or len(rest) < 2:
        return None
    point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
    kind = "drvfs" if rest[0] == "9p" and "aname=drvfs" in tail else rest[0]
    return Path(point), kind


def _macos_mounts() -> list[tuple[Path, str]]:
    try:
        out = subprocess.run(
            ["/sbin/mount"], capture_output=True, text=True, timeout=5, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [mount for line in out.splitlines() if (mount := _macos_mount(line))]


def _macos_mount(line: str) -> tuple[Path, str] | None:
    """From `//me@host/share on /Volumes/share (smbfs, nodev, nosuid)`."""
    place, _, options = line.rpartition(" (")
    _, found, point = place.partition(" on ")
    return (Path(point), options.rstrip(")").split(",")[0].strip()) if found else None


if sys.platform == "win32":
    import ctypes
    import msvcrt

    _DRIVE_REMOTE = 4

    def _lock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _windows_network_type(folder: Path) -> str:
        if folder.anchor.startswith("\\\\"):
            return "network share"
        kind = ctypes.windll.kernel32.GetDriveTypeW(folder.anchor)
        return "network drive" if kind == _DRIVE_REMOTE else ""

else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _windows_network_type(folder: Path) -> str:
        raise NotImplementedError(folder)

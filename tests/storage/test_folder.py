"""The data folder: private, local, writable, one writer."""

import os
import stat
import sys
from pathlib import Path

import pytest

from storage import folder as folder_module
from storage.folder import (
    DATABASE,
    LOCK,
    _macos_mount,
    _mount_type,
    _mountinfo,
    network_type,
    prepare,
)
from storage.records import OWNER_ID, FolderUnwritable, NotFound
from storage.store import Store
from tests.storage import make

POSIX = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


@POSIX
def test_everything_in_the_folder_is_for_its_owner_alone(folder: Path) -> None:
    previous = os.umask(0)
    try:
        store = make.open_store(folder)
        make.turn(store, store.create_conversation(OWNER_ID).key, "Hello", "Hi")
        store.backup()
    finally:
        os.umask(previous)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {DATABASE, DATABASE + "-wal", DATABASE + "-shm"}
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files} == {
        path.name: 0o600 for path in files
    }


@POSIX
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FolderUnwritable, match="--data DIR"):
            make.open_store(tmp_path / "data")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(FolderUnwritable, match="--data DIR"):
        make.open_store(tmp_path / "data")


@pytest.mark.parametrize("name", [LOCK, DATABASE])
def test_a_file_of_the_folder_that_cannot_be_opened_is_named(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)
    with pytest.raises(FolderUnwritable, match=name):
        make.open_store(folder)
    (folder / name).rmdir()
    make.open_store(folder)


def test_a_network_drive_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_mounts", lambda: [(Path(folder.anchor), "nfs4")])
    if sys.platform == "win32":
        pytest.skip("mounts are POSIX")
    with pytest.raises(FolderUnwritable, match=r"network drive \(nfs4\)"):
        prepare(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="mounts are POSIX")
def test_this_folder_is_local(tmp_path: Path) -> None:
    assert network_type(tmp_path) == ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "36 35 98:0 / /mnt/my\\040share rw,noatime master:1 - cifs //nas/x rw,errors=continue",
            (Path("/mnt/my share"), "cifs"),
        ),
        (
            "50 60 0:40 / /mnt/c rw,noatime - 9p C:\\134 rw,dirsync,aname=drvfs;path=C:\\134",
            (Path("/mnt/c"), "drvfs"),
        ),
        ("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw", (Path("/"), "ext4")),
        ("nonsense", None),
        ("", None),
    ],
)
def test_lines_of_mountinfo(line: str, expected: tuple[Path, str] | None) -> None:
    assert _mountinfo(line) == expected


def test_lines_of_macos_mount() -> None:
    line = "//me@nas/home (old) on /Volumes/home (old) (smbfs, nodev, nosuid, mounted by me)"
    assert _macos_mount(line) == (Path("/Volumes/home (old)"), "smbfs")
    assert _macos_mount("nonsense") is None


def test_the_deepest_mount_counts_and_the_last_of_equals() -> None:
    mounts = [
        (Path("/"), "ext4"),
        (Path("/srv"), "nfs"),
        (Path("/srv/me/local"), "btrfs"),
        (Path("/srv"), "nfs4"),
    ]
    assert _mount_type(Path("/srv/me/data"), mounts) == "nfs4"
    assert _mount_type(Path("/srv/me/local/data"), mounts) == "btrfs"
    assert _mount_type(Path("/srvs"), mounts) == "ext4"
    assert _mount_type(Path("/x"), []) == ""


def test_a_store_opened_for_reading_changes_nothing(folder: Path) -> None:
    with pytest.raises(NotFound):
        Store.open(folder, readonly=True)
    store = make.open_store(folder)
    key = store.create_conversation(OWNER_ID).key
    make.turn(store, key, "Hello", "Hi")
    reader = Store.open(folder, readonly=True)
    assert make.contents(reader, key) == ["Hello", "Hi"]
    with pytest.raises(FolderUnwritable, match="reading only"):
        reader.rename(OWNER_ID, key, "x")
    make.turn(store, key, "more", "text")
    assert make.contents(reader, key) == ["more", "text"]
    reader.close()

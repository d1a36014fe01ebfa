"""How starts find each other."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import instance
from tests.local_http import Handler, serving


class Stranger(Handler):
    """Another program: answers 200 with its own words to everything."""

    def do_GET(self) -> None:
        self.answer(200, b'["not ours"]')

    do_POST = do_GET


@pytest.fixture
def stranger() -> Iterator[int]:
    with serving(Stranger) as port:
        yield port


def test_what_is_written_is_read_and_private(tmp_path: Path) -> None:
    path = instance.write(tmp_path, port=7860, secret="s")
    found = instance.read(tmp_path)
    assert found is not None
    assert (found.pid, found.port, found.url) == (os.getpid(), 7860, "http://127.0.0.1:7860")
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"pid": 1}', "\x00",
     '{"pid":1,"port":"x","url":"u","secret":"s","started_at":1}',
     '{"pid":1,"port":99999,"url":"u","secret":"s","started_at":1}',
     '{"pid":1,"port":1,"url":"u","secret":null,"started_at":1}'],
)  # fmt: skip
def test_a_broken_file_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert instance.read(tmp_path) is None
    assert instance.new_address(tmp_path) is None
    instance.remove(tmp_path, "s")
    assert (tmp_path / "run.json").exists()


def test_only_our_own_file_is_removed(tmp_path: Path) -> None:
    instance.write(tmp_path, port=7860, secret="newer")
    instance.remove(tmp_path, "older")
    assert instance.read(tmp_path) is not None
    instance.remove(tmp_path, "newer")
    assert instance.read(tmp_path) is None


def test_a_file_that_a_crash_left_leads_nowhere(tmp_path: Path, stranger: int) -> None:
    with instance.listen(0) as free:
        port = free.getsockname()[1]
    instance.write(tmp_path, port=port, secret="s")
    assert instance.new_address(tmp_path) is None
    instance.write(tmp_path, port=stranger, secret="s")
    assert instance.new_address(tmp_path) is None


def test_a_stranger_is_no_corral(stranger: int) -> None:
    assert not instance.is_corral(stranger)
    with instance.listen(0) as free:
        port = free.getsockname()[1]
    assert not instance.is_corral(port)


def test_listening_is_on_loopback_alone_and_exclusive() -> None:
    with instance.listen(0) as made:
        host, port = made.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(OSError):
            instance.listen(port)
        assert not made.get_inheritable()
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            pass


def test_the_secret_is_in_the_file_and_nowhere_else(tmp_path: Path) -> None:
    path = instance.write(tmp_path, port=7860, secret="s3cret")
    assert json.loads(path.read_text())["secret"] == "s3cret"

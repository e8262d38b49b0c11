from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from facecodec import files
from facecodec.errors import FscError


def test_written_bytes_are_read_back(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "a", b"bytes")
    assert files.read(tmp_path / "a") == b"bytes"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(FscError, match="already there; --force"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    files.write_atomic(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_taken_in_the_meantime_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    real = os.fsync

    def other_writer(descriptor: int) -> None:
        path.write_bytes(b"theirs")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", other_writer)
    with pytest.raises(FscError, match="already there"):
        files.write_atomic(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_file_systems_without_links_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    files.write_atomic(tmp_path / "a", b"1")
    with pytest.raises(FscError, match="already there"):
        files.write_atomic(tmp_path / "a", b"2")
    assert files.read(tmp_path / "a") == b"1"


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(_: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    expected = FscError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        files.write_atomic(tmp_path / "a", b"bytes")
    if expected is FscError:
        assert str(caught.value).endswith("a cannot be written: No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.write_atomic(tmp_path / "link", b"new", force=True)
    assert (tmp_path / "target").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_is_written_in_place(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=files.write_atomic, args=(pipe, b"bytes"))
    writer.start()
    assert pipe.read_bytes() == b"bytes"
    writer.join()
    assert pipe.is_fifo()


def test_what_cannot_be_opened_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(FscError, match="absent cannot be read: No such file"):
        files.read(tmp_path / "absent")
    with pytest.raises(FscError, match="cannot be read: Is a directory"):
        files.read(tmp_path)
    for force in (False, True):
        with pytest.raises(FscError):
            files.write_atomic(tmp_path, b"", force=force)
        with pytest.raises(FscError, match="cannot be written: No such file"):
            files.write_atomic(tmp_path / "absent" / "a", b"", force=force)

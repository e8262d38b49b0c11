"""Files on disk: read whole, written whole or not at all."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

from facecodec.errors import FscError


def read(path: Path | str) -> bytes:
    """Return the bytes of a file; FscError if it cannot be read."""
    try:
        with FileIO(path) as file:
            return file.readall()
    except OSError as error:
        raise FscError(f"{path} cannot be read: {error.strerror}") from error


def refuse_overwriting(path: Path) -> None:
    """Raise FscError if ``path`` is a file or a folder; a device or a pipe is written to as it is."""
    if path.is_file() or path.is_dir():
        raise FscError(f"{path} is already there; --force overwrites it")


def write_atomic(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write ``data`` to ``path`` so that nobody ever sees half of it.

    The bytes go to a new file in the same folder, which then takes the name.  A link is followed, and what
    is no plain file (a device, a pipe) is written in place.  An existing file stays as it is, and FscError
    says so, unless ``force``; a full disk and the like are FscError too, and leave nothing behind.
    """
    if not force:
        refuse_overwriting(path)
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            target.write_bytes(data)
        else:
            _write_then_name(target, data, force)
    except OSError as error:
        raise FscError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_then_name(target: Path, data: bytes, force: bool) -> None:
    partial = target.with_name(f".fsc-{os.urandom(8).hex()}")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if force:
            partial.replace(target)
        else:
            _name_if_free(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _name_if_free(partial: Path, target: Path) -> None:
    """Give the file its name unless that is taken; without hard links there is a moment between the two."""
    try:
        target.hardlink_to(partial)
    except OSError:
        refuse_overwriting(target)
        partial.replace(target)

"""Files on disk: read whole, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from facecodec.errors import FscError


def read(path: Path) -> bytes:
    """Return the bytes of a file; FscError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FscError(f"{path} cannot be read: {error.strerror}") from error


def write_atomic(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write ``data`` to ``path`` so that nobody ever sees half of it.

    The bytes go to a new file in the same folder, which then takes the name.  A link is followed, and what
    is no plain file (a device, a pipe) is written in place.  An existing file stays as it is, and FscError
    says so, unless ``force``; a full disk and the like are FscError too, and leave nothing behind.
    """
    try:
        target = path.resolve()
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_bytes(data)
        elif target.exists() and not force:
            raise FileExistsError
        else:
            _write_then_name(target, data, force)
    except FileExistsError:
        raise FscError(f"{path} is already there; --force overwrites it") from None
    except OSError as error:
        raise FscError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_then_name(target: Path, data: bytes, force: bool) -> None:
    partial = target.with_name(f".fsc-{secrets.token_hex(8)}")
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
    """Give the file its name unless the name is taken; a file system without hard links cannot promise it."""
    try:
        target.hardlink_to(partial)
    except FileExistsError:
        raise
    except OSError:
        if target.exists():
            raise FileExistsError from None
        partial.replace(target)

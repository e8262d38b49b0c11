"""Every error this package raises on purpose, with the exit code that `fsc` turns it into.

FscError                 1  any error of ours
├── ImageError           1  a picture that cannot be read, or cannot be coded
├── NoFaceError          3  a picture without a face where one is needed
├── StreamError          4  a file that cannot be decoded
│   ├── TruncatedError   4  it ends before the part that is needed
│   ├── CorruptError     4  it breaks a rule of bitstream_spec.md
│   └── UnsupportedError 4  it follows rules this version does not know
└── WeightsError         5  model weights that are missing, damaged or of the wrong shape

Exit code 2 is wrong usage of the command line. A wrong argument from Python is a ValueError.
"""

from __future__ import annotations

from typing import ClassVar


class FscError(Exception):
    """Any error that this package raises on purpose; its message is one sentence for a person."""

    exit_code: ClassVar[int] = 1


class ImageError(FscError):
    """A picture that cannot be read, or cannot be coded."""


class NoFaceError(FscError):
    """A picture without a face where one is needed."""

    exit_code = 3


class StreamError(FscError):
    """A file that cannot be decoded."""

    exit_code = 4


class TruncatedError(StreamError):
    """A file that ends before the part that is needed."""


class CorruptError(StreamError):
    """A file that breaks a rule of bitstream_spec.md."""


class UnsupportedError(StreamError):
    """A file that follows rules this version does not know."""


class WeightsError(FscError):
    """Model weights that are missing, damaged or of the wrong shape."""

    exit_code = 5

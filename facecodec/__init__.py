"""A scalable codec for face photographs: features first, then a preview, then the picture, bit for bit."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facecodec.account import Info, Part, info
    from facecodec.codec import Picture, decode, strip, truncate, verify
    from facecodec.encoder import encode
    from facecodec.errors import (
        CorruptError,
        FscError,
        ImageError,
        NoFaceError,
        StreamError,
        TruncatedError,
        UnsupportedError,
        WeightsError,
    )
    from facecodec.identity import Comparison, Features, compare, features

__all__ = [
    "Comparison",
    "CorruptError",
    "Features",
    "FscError",
    "ImageError",
    "Info",
    "NoFaceError",
    "Part",
    "Picture",
    "StreamError",
    "TruncatedError",
    "UnsupportedError",
    "WeightsError",
    "compare",
    "decode",
    "encode",
    "features",
    "info",
    "strip",
    "truncate",
    "verify",
]

_ROOMS = ("errors", "identity", "codec", "account", "encoder")


def __getattr__(name: str) -> Any:
    """Return what is public from its room, imported when it is first asked for: PEP 562.

    So a command can read its file, and choose how numpy will run, before numpy is there.
    """
    if name in __all__:
        for room in _ROOMS:
            found = getattr(import_module(f"facecodec.{room}"), name, None)
            if getattr(found, "__module__", None) == f"facecodec.{room}":
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

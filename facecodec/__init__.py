"""A scalable codec for face photographs: features first, then a preview, then the picture, bit for bit."""

from facecodec.account import Info, Part, info
from facecodec.codec import (
    Comparison,
    Features,
    Picture,
    compare,
    decode,
    features,
    strip,
    truncate,
    verify,
)
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

"""Picture files and RGB arrays: orientation, colour, alpha, bit depth, limits (free side)."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from facecodec.errors import ImageError

if TYPE_CHECKING:
    from PIL import ImageCms

Pixels = npt.NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP")
MIN_SIDE, MAX_SIDE = 16, 8192
STRIP = 256

_WRITERS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".bmp": {},
    ".tif": {"compression": "tiff_lzw"},
    ".tiff": {"compression": "tiff_lzw"},
    ".webp": {"lossless": True},
    ".avif": {"quality": 95, "subsampling": "4:4:4"},
    ".jpg": {"quality": 95, "subsampling": "4:4:4"},
    ".jpeg": {"quality": 95, "subsampling": "4:4:4"},
}

_OTHER_FILES = (
    (0, b"\xf5SC", "an .fsc file already"),
    (0, b"GIF8", "a GIF"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF"),
    (0, b"\xff\x0a", "a JPEG XL file"),
    (4, b"JXL ", "a JPEG XL file"),
    (4, b"jP  ", "a JPEG 2000 file"),
    (4, b"ftyphei", "a HEIC file"),
    (4, b"ftypmif", "a HEIF file"),
)

# What Pillow's parsers raise on hostile bytes.
_PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Image.DecompressionBombError,
    struct.error,
    zlib.error,
)

logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Photo:
    """``pixels``, uint8 sRGB (H, W, 3), and ``notes``: what of the file they do not keep, in words."""

    pixels: Pixels
    notes: tuple[str, ...] = ()


def load(source: Path | str | bytes) -> Photo:
    """Read a picture file, given by path or as its bytes.

    JPEG, PNG, WebP, AVIF, TIFF or BMP of 16x16 to 8192x8192 pixels in grey, palette, RGB or CMYK colours of
    1 to 16 bits, with or without alpha.  ImageError for anything else, and for a damaged file.
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with _errors_about(name):
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError as error:
            reason = f"{_kind(source)}; JPEG, PNG, WebP, AVIF, TIFF and BMP are read"
            raise ImageError(reason) from error
        with image:
            return _convert(image)


def convert(image: Image.Image) -> Photo:
    """Return a Pillow image as pixels: upright, in sRGB, on white; ImageError where it has no such form."""
    with _errors_about("the picture"):
        return _convert(image)


def to_bytes(pixels: Pixels, suffix: str = ".png") -> bytes:
    """Return uint8 RGB (H, W, 3) as a file of the kind that ``suffix`` names.

    PNG, BMP, TIFF and WebP keep the very pixels; JPEG and AVIF are written at quality 95, 4:4:4.  ImageError
    for any other suffix, and for a picture that the format cannot hold.
    """
    kind = suffix.lower()
    if kind not in _WRITERS:
        raise ImageError(f"a picture cannot be written as {suffix!r}; {', '.join(_WRITERS)} are the choices")
    buffer = io.BytesIO()
    buffer.name = f"picture{kind}"  # told a name and no format, Pillow imports the one writer that it needs
    try:
        Image.fromarray(pixels).save(buffer, **_WRITERS[kind])
    except _PARSER_ERRORS as error:
        height, width = pixels.shape[:2]
        raise ImageError(f"{width}x{height} pixels cannot be written as {kind}: {error}") from error
    return buffer.getvalue()


def _convert(image: Image.Image) -> Photo:
    """Convert in strips, so that memory stays near that of the two pictures."""
    width, height = image.size
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        limits = f"{MIN_SIDE}x{MIN_SIDE} to {MAX_SIDE}x{MAX_SIDE}"
        raise ImageError(f"{width}x{height} pixels are outside the limits of {limits}")
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format in ("TIFF", "PNG", "WEBP", "AVIF"):
        notes.append(f"only the first of its {frames} pictures is taken")
    image, problem = _upright(image)
    notes += problem
    width, height = image.size
    transform = None
    if profile := image.info.get("icc_profile"):
        transform, problem = _to_srgb(profile, _split_alpha(image.crop((0, 0, 1, 1)))[0].mode)
        notes += problem
    pixels = np.empty((height, width, 3), np.uint8)
    transparent = False
    for top in range(0, height, STRIP):
        strip = pixels[top : top + STRIP]
        colour, alpha = _split_alpha(image.crop((0, top, width, top + len(strip))))
        if transform is not None:
            colour = transform.apply(colour.convert(transform.input_mode))
        strip[:] = np.asarray(colour.convert("RGB"))
        if alpha is not None and alpha.min() < 255:
            strip[:] = _on_white(strip, alpha)
            transparent = True
    if transparent:
        notes.append("its transparency is composited on white")
    return Photo(pixels, tuple(notes))


def _upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    image.load()
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return (ImageOps.exif_transpose(image) if turned else image), []
    except (LookupError, SyntaxError, TypeError, ValueError, struct.error):
        return image, ["its EXIF data is damaged, so it is taken as upright"]


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Pixels | None]:
    """Return the colours as 8-bit L, RGB or CMYK, and the alpha (H, W) where there is one."""
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((samples * 255 + 32767) // 65535).astype(np.uint8)), None
    if image.mode in ("P", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), np.asarray(image.getchannel("A"))
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    if image.mode in ("1", "YCbCr", "RGBX"):
        return image.convert("L" if image.mode == "1" else "RGB"), None
    raise ImageError(f"pixels of the kind {image.mode} are not read")


def _to_srgb(profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, list[str]]:
    """Return the relative colorimetric transform, or None: it does nothing, or a note says why not."""
    from PIL import ImageCms

    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        if mode == "L" and source.profile.xcolor_space.strip() == "RGB":
            mode = "RGB"
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, *_PARSER_ERRORS):
        return None, ["its colour profile is damaged or of another kind of colour, so it is taken as sRGB"]
    return None if mode == "RGB" and _changes_nothing(transform) else transform, []


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Tell whether the profile is sRGB already, up to rounding."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
    after = np.asarray(transform.apply(Image.fromarray(grid))).astype(int)
    return int(np.abs(after - grid).max()) <= 1


def _on_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    opacity = alpha[..., None].astype(np.uint32)
    return ((pixels * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def _kind(source: Path | str | bytes) -> str:
    if isinstance(source, bytes):
        head = source[:16]
    else:
        with Path(source).open("rb") as file:
            head = file.read(16)
    if not head:
        return "empty"
    kinds = (kind for at, magic, kind in _OTHER_FILES if head.startswith(magic, at))
    return next(kinds, "no picture, or damaged")


@contextmanager
def _errors_about(name: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an ImageError about ``name``, and keep Pillow's warnings quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except _PARSER_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"{name} cannot be read: {reason or type(error).__name__}") from error

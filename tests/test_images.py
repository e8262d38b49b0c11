from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from facecodec import images
from facecodec.errors import ImageError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 24, 3), np.uint8)
SMOOTH = np.stack(np.meshgrid(np.arange(64), np.arange(48)), -1)[..., [0, 1, 0]].astype(np.uint8) * 3


def as_file(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_16(samples: np.ndarray, colour_type: int) -> bytes:
    def chunk(tag: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_the_pixels(kind: str) -> None:
    photo = images.load(as_file(RGB, kind))
    assert np.array_equal(photo.pixels, RGB)
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.flags.writeable
    assert photo.notes == ()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_keep_the_picture(kind: str) -> None:
    photo = images.load(as_file(SMOOTH, kind, quality=95))
    assert photo.pixels.shape == SMOOTH.shape
    assert np.abs(photo.pixels.astype(int) - SMOOTH).mean() < 3


def test_load_takes_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(as_file(RGB))
    assert np.array_equal(images.load(path).pixels, RGB)
    assert np.array_equal(images.load(str(path)).pixels, RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    turns = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(images.load(as_file(RGB, kind, exif=exif)).pixels, turns[orientation])


@pytest.mark.parametrize(
    "exif", [b"garbage that is no TIFF", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\x99\0\0"]
)
def test_damaged_exif_is_survived(exif: bytes) -> None:
    photo = images.load(as_file(RGB, exif=b"Exif\0\0" + exif))
    assert np.array_equal(photo.pixels, RGB)
    assert all("EXIF" in note for note in photo.notes)


def test_unreadable_exif_is_said() -> None:
    assert "EXIF" in images.load(as_file(RGB, exif=b"Exif\0\0garbage that is no TIFF")).notes[0]


def test_grey_and_one_bit() -> None:
    grey = RGB[..., 0]
    assert np.array_equal(images.load(as_file(grey)).pixels, np.stack([grey] * 3, -1))
    bits = grey > 127
    expected = np.stack([bits * 255] * 3, -1)
    assert np.array_equal(images.load(as_file(Image.fromarray(bits))).pixels, expected)


def test_palette() -> None:
    image = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(images.load(as_file(image)).pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("LA", 2)])
def test_alpha_is_composited_on_white_and_said(mode: str, channels: int) -> None:
    samples = RNG.integers(0, 256, (300, 24, channels), np.uint8)
    photo = images.load(as_file(Image.fromarray(samples, mode)))
    colour = np.broadcast_to(samples[..., :-1], (300, 24, 3)).astype(float)
    alpha = samples[..., -1:] / 255
    expected = colour * alpha + 255 * (1 - alpha)
    assert np.abs(photo.pixels - expected).max() <= 0.5 + 1e-6
    assert photo.notes == ("its transparency is composited on white",)


def test_opaque_alpha_is_not_worth_a_note() -> None:
    samples = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    photo = images.load(as_file(samples))
    assert np.array_equal(photo.pixels, RGB)
    assert photo.notes == ()


def test_a_transparent_palette_entry_is_alpha() -> None:
    image = Image.fromarray(np.zeros((16, 16), np.uint8), "P")
    image.putpalette([10, 20, 30])
    photo = images.load(as_file(image, transparency=0))
    assert (photo.pixels == 255).all()
    assert photo.notes


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(kind: str) -> None:
    samples = np.linspace(0, 65535, 256 * 16).reshape(16, 256).astype(np.uint16)
    photo = images.load(as_file(samples, kind))
    expected = np.stack([np.round(samples / 257)] * 3, -1)
    assert np.abs(photo.pixels - expected).max() <= 1
    assert photo.pixels.min() == 0
    assert photo.pixels.max() == 255


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4)])
def test_16_bit_colour_is_scaled(colour_type: int, channels: int) -> None:
    samples = np.full((16, 16, channels), 65535, np.uint16)
    samples[..., :3] = np.linspace(0, 65535, 16 * 16 * 3).reshape(16, 16, 3)
    photo = images.load(png_16(samples, colour_type))
    assert np.abs(photo.pixels - samples[..., :3] / 257).max() <= 1


def test_cmyk() -> None:
    white = Image.new("CMYK", (32, 32), (0, 0, 0, 0))
    cyan = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    for kind in ("TIFF", "JPEG"):
        assert np.abs(images.load(as_file(white, kind)).pixels.astype(int) - 255).max() <= 2
        pixel = images.load(as_file(cyan, kind)).pixels[5, 5].astype(int)
        assert pixel[0] < 10
        assert (pixel[1:] > 200).all()


def test_an_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = images.load(as_file(RGB, icc_profile=profile))
    assert np.array_equal(photo.pixels, RGB)
    assert photo.notes == ()


def swapped_primaries() -> bytes:
    """An sRGB profile whose red and blue colorants have changed places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * profile[131], 12)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def test_an_embedded_profile_is_converted() -> None:
    photo = images.load(as_file(RGB, icc_profile=swapped_primaries()))
    assert np.abs(photo.pixels.astype(int) - RGB[..., ::-1]).max() <= 2
    grey = images.load(as_file(RGB[..., 0], icc_profile=swapped_primaries()))
    assert np.abs(grey.pixels.astype(int) - RGB[..., :1]).max() <= 2
    assert grey.notes == ()


@pytest.mark.parametrize("image", [Image.fromarray(RGB), Image.fromarray(RGB).convert("CMYK")])
def test_a_profile_that_does_not_fit_is_said(image: Image.Image) -> None:
    grey = swapped_primaries()[:16] + b"GRAY" + swapped_primaries()[20:]
    photo = images.load(as_file(image, "TIFF", icc_profile=grey))
    assert "colour profile" in photo.notes[0]
    assert "colour profile" in images.load(as_file(image, "TIFF", icc_profile=b"nonsense")).notes[0]


def test_only_the_first_frame_is_taken_and_said() -> None:
    second = Image.fromarray(255 - RGB)
    photo = images.load(as_file(RGB, "TIFF", save_all=True, append_images=[second]))
    assert np.array_equal(photo.pixels, RGB)
    assert photo.notes == ("only the first of its 2 pictures is taken",)


@pytest.mark.parametrize("size", [(15, 16), (16, 15), (8193, 16), (16, 8193)])
def test_sizes_outside_the_limits_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="16x16 to 8192x8192"):
        images.load(as_file(Image.new("L", size)))


@pytest.mark.parametrize("size", [(16, 16), (8192, 16), (16, 8192)])
def test_sizes_at_the_limits_are_read(size: tuple[int, int]) -> None:
    assert images.load(as_file(Image.new("L", size))).pixels.shape == (size[1], size[0], 3)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    file = bytearray(as_file(Image.new("L", (16, 16))))
    file[16:24] = struct.pack(">II", 60_000, 60_000)
    file[29:33] = struct.pack(">I", zlib.crc32(file[12:29]))
    with pytest.raises(ImageError, match="pixels"):
        images.load(bytes(file))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (as_file(RGB, "GIF"), "a GIF"),
        (as_file(RGB, "JPEG2000"), "a JPEG 2000 file"),
        (b"%PDF-1.7 and more", "a PDF"),
        (b"\xf5SC\x01 and more", "an .fsc file already"),
        (as_file(RGB, "PPM"), "no picture, or damaged"),
        (b"", "empty"),
    ],
)
def test_other_files_are_refused_by_name(data: bytes, kind: str) -> None:
    with pytest.raises(
        ImageError, match=f"the picture: {kind}; JPEG, PNG, WebP, AVIF, TIFF and BMP are read"
    ):
        images.load(data)


def test_kinds_of_pixels_that_have_no_8_bit_form_are_refused() -> None:
    with pytest.raises(ImageError, match="kind F"):
        images.load(as_file(Image.new("F", (16, 16)), "TIFF"))


def test_a_path_that_cannot_be_read_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        images.load(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="directory"):
        images.load(tmp_path)


@pytest.mark.parametrize("kind", images.FORMATS)
def test_every_truncation_is_an_image_error_or_a_picture(kind: str) -> None:
    data = as_file(SMOOTH, kind)
    for length in range(0, len(data) - 2, max(1, len(data) // 40)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                assert images.load(data[:length]).pixels.shape == SMOOTH.shape
            except ImageError:
                continue


@settings(max_examples=150)
@given(st.sampled_from(images.FORMATS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6))
def test_hostile_bytes_are_an_image_error_or_a_picture(kind: str, pokes: list[tuple[float, int]]) -> None:
    data = bytearray(as_file(SMOOTH, kind))
    for place, value in pokes:
        data[int(place * (len(data) - 1))] = value
    try:
        photo = images.load(bytes(data))
    except ImageError:
        return
    assert photo.pixels.ndim == 3


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        images.load(data)


def test_convert_takes_a_picture_of_pillow_and_leaves_it_alone() -> None:
    image = Image.open(io.BytesIO(as_file(RGB)))
    assert np.array_equal(images.convert(image).pixels, RGB)
    assert image.size == (24, 20)
    with pytest.raises(ImageError, match="truncated"):
        images.convert(Image.open(io.BytesIO(as_file(RGB)[:300])))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".PNG"])
def test_pictures_are_written_without_loss(suffix: str) -> None:
    assert np.array_equal(images.load(images.to_bytes(RGB, suffix)).pixels, RGB)


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_pictures_are_written_with_little_loss(suffix: str) -> None:
    again = images.load(images.to_bytes(SMOOTH, suffix)).pixels
    assert np.abs(again.astype(int) - SMOOTH).mean() < 2


def test_a_picture_that_cannot_be_written_is_an_image_error() -> None:
    with pytest.raises(ImageError, match=r"'\.gif'.*\.png"):
        images.to_bytes(RGB, ".gif")
    with pytest.raises(ImageError, match=r"17000x16 pixels cannot be written as \.webp"):
        images.to_bytes(np.zeros((16, 17000, 3), np.uint8), ".webp")

"""Where a face is: its transform in 8 bytes, the landmarks and box these imply, the place of its preview.

Three frames: the recognition frame, 112x112 units, centre (56, 56); the preview, 64x64 pixels of 2.5 units
around the same centre; the picture, in pixels. All are measured from their upper left corner: the centre of
the first pixel is (0.5, 0.5).
All results are exact: integers, below 2^63, divided with floor. Frozen: bitstream_spec.md, "Geometry".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import CorruptError

FRAME = 112
"""Side of the recognition frame, in frame units."""

PREVIEW = 64
"""Side of a preview, in pixels of 2.5 frame units."""

LANDMARKS = ((387946, 521963), (740318, 520014), (565252, 722366), (420493, 928655), (712299, 927041))
"""Eyes, nose and corners of the mouth in the recognition frame, (u, v) in 1/10000 units from its corner."""

FACE = ((160000, 80000), (960000, 80000), (160000, 1120000), (960000, 1120000))
"""Corners of the face in the recognition frame, in 1/10000 units; its box encloses them."""

CELLS = 18
"""Cells a side of a map of regions: 16 x 16 of 7 x 7 frame units, and all around them what is outside."""

_UNIT = 10_000
_OUTLINE = LANDMARKS + FACE
_FROM_CENTRE = tuple((u - FRAME * _UNIT // 2, v - FRAME * _UNIT // 2) for u, v in _OUTLINE)
_BLOCK = 16
_PROBE = 8
_BITS = 8
_ONE = 1 << _BITS
_MAX_EXPONENT = 15
_MIN_FACTOR, _MAX_FACTOR = 4096, 8191
_FADE = 32
_EXTENDED = PREVIEW + 2 * _FADE
_BLANK = 128
_TILE = 128  # larger temporaries are slower: fresh pages each time (measured)

Integers: TypeAlias = npt.NDArray[np.int64]
Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Geometry:
    """A similarity transform from the recognition frame to a picture of Width x Height.

    x = cx + a (u - 56) - b (v - 56), y = cy + b (u - 56) + a (v - 56), where cx = (qx + 1/2) Width / 2^16,
    cy = (qy + 1/2) Height / 2^16; the fields `a`, `b` are in units of 2^(e - 20) pixels a frame unit.
    `qx`, `qy` are 0..65535, `e` is 0..15, |a| and |b| are at most 8191 and not both 0, and the larger is at
    least 4096 unless e = 0; CorruptError otherwise. Spec: "Geometry".
    """

    qx: int
    qy: int
    e: int
    a: int
    b: int

    def __post_init__(self) -> None:
        larger = max(abs(self.a), abs(self.b))
        if not (0 <= self.qx <= 0xFFFF and 0 <= self.qy <= 0xFFFF and 0 <= self.e <= _MAX_EXPONENT):
            raise CorruptError("a field of a face's geometry is out of range")
        if not (_MIN_FACTOR if self.e else 1) <= larger <= _MAX_FACTOR:
            raise CorruptError("the scale of a face's geometry is not normalised")

    @classmethod
    def unpack(cls, data: bytes) -> Geometry:
        """Read the 8 bytes of one face; raises CorruptError for those that `pack` never writes."""
        qx, qy, packed = struct.unpack("<HHI", data)
        a, b = (((packed >> low & 0x3FFF) ^ 0x2000) - 0x2000 for low in (4, 18))
        return cls(qx, qy, packed & 0xF, a, b)

    def pack(self) -> bytes:
        """Return the 8 bytes of this face."""
        packed = self.e | (self.a & 0x3FFF) << 4 | (self.b & 0x3FFF) << 18
        return struct.pack("<HHI", self.qx, self.qy, packed)

    @classmethod
    def fit(cls, similarity: npt.ArrayLike, width: int, height: int) -> Geometry:
        """Quantise a float similarity (2, 3) from the recognition frame to the picture.

        A centre outside the picture moves to its border; a face larger than the format allows shrinks.
        Raises ValueError if the matrix is not finite or has no extent.
        """
        matrix = np.asarray(similarity, np.float64)
        if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
            raise ValueError("a similarity is a finite 2x3 matrix")
        centre = matrix @ (FRAME / 2, FRAME / 2, 1) * 0x10000 / (width, height)
        qx, qy = (int(q) for q in np.clip(np.floor(centre), 0, 0xFFFF))
        factors = np.array([matrix[0, 0] + matrix[1, 1], matrix[1, 0] - matrix[0, 1]]) / 2
        largest = _MAX_FACTOR * 2.0 ** (_MAX_EXPONENT - 20)
        factors *= min(1.0, largest / max(np.abs(factors).max(), largest))
        sizes = (np.rint(factors * 2.0 ** (20 - e)).astype(int) for e in range(_MAX_EXPONENT + 1))
        e, (a, b) = next((e, size) for e, size in enumerate(sizes) if np.abs(size).max() <= _MAX_FACTOR)
        if a == b == 0:
            raise ValueError("a similarity needs an extent")
        return cls(qx, qy, e, int(a), int(b))

    def similarity(self, width: int, height: int) -> npt.NDArray[np.float64]:
        """Return the float matrix (2, 3) that `fit` would quantise to this; for the free side."""
        a, b = self.a * 2.0 ** (self.e - 20), self.b * 2.0 ** (self.e - 20)
        x, y = (self.qx + 0.5) * width / 0x10000, (self.qy + 0.5) * height / 0x10000
        half = FRAME / 2
        return np.array([[a, -b, x - half * (a - b)], [b, a, y - half * (a + b)]])


def landmarks_and_box(
    geometry: Geometry | None, width: int, height: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the five landmarks (5, 2) and the box (4,) of a face, in pixels from the corner of the picture.

    Landmarks are (x, y), multiples of 1/256; the box is left, top, right, bottom, inside the picture.
    `geometry` None is an aligned picture: the recognition frame stretched over it. Spec: "Geometry".
    """
    points = _to_picture(geometry, width, height)
    xs, ys = zip(*points[len(LANDMARKS) :], strict=True)
    edges = zip((min(xs), min(ys), max(xs), max(ys)), (width, height) * 2, strict=True)
    box = [min(max(edge, 0), side * _ONE) / _ONE for edge, side in edges]
    landmarks = [(x / _ONE, y / _ONE) for x, y in points[: len(LANDMARKS)]]
    return np.array(landmarks, np.float32), np.array(box, np.float32)


def _to_picture(geometry: Geometry | None, width: int, height: int) -> list[tuple[int, int]]:
    """Map LANDMARKS and the corners of FACE to the nearest 1/256 pixel, halves up: nine (x, y)."""
    if geometry is None:
        numerators = [(_ONE * width * u, _ONE * height * v) for u, v in _OUTLINE]
        denominator = FRAME * _UNIT
    else:
        a, b = geometry.a << geometry.e, geometry.b << geometry.e
        x, y = (8 * _UNIT * q for q in ((2 * geometry.qx + 1) * width, (2 * geometry.qy + 1) * height))
        numerators = [(x + a * u - b * v, y + b * u + a * v) for u, v in _FROM_CENTRE]
        denominator = 4096 * _UNIT
    twice = 2 * denominator
    return [((2 * x + denominator) // twice, (2 * y + denominator) // twice) for x, y in numerators]


def place(previews: Pixels, geometries: Sequence[Geometry | None], width: int, height: int) -> Pixels:
    """Predict the picture (height, width, 3) from the previews (N, 64, 64, 3) of its faces.

    Each pixel takes the face that is nearest in preview pixels, sampled bilinearly; around a preview, 32 more
    of its pixels fade to its mean border colour. A geometry of None stretches the recognition frame over the
    picture. Without faces all is 128. Memory beyond the result does not grow with it. Spec: "Geometry".
    """
    picture = np.full((height, width, 3), _BLANK, np.uint8)
    if not geometries:
        return picture
    planes = _extend(previews)
    maps = np.array([_to_preview(geometry, width, height) for geometry in geometries])
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            tile = picture[top : top + _TILE, left : left + _TILE]
            ys, xs = (
                start + np.arange(size) for start, size in zip((top, left), tile.shape[:2], strict=True)
            )
            _place_tile(tile, planes, maps, xs, ys)
    return picture


def delays(
    regions: Pixels, geometries: Sequence[Geometry | None], width: int, height: int
) -> npt.NDArray[np.uint8]:
    """Return the least delay of the cells of any face that each block of 16 x 16 pixels meets.

    `regions` is (18, 18); a block is looked at in four places. Without faces nothing is put off. The result
    is uint8 (rows, columns). Spec: "Regions".
    """
    rows, columns = (-(-size // _BLOCK) for size in (height, width))
    least = np.full((rows, columns), 255 if geometries else 0, np.uint8)
    step = _BLOCK // _PROBE
    for geometry in geometries:
        to_preview = _to_preview(geometry, width, height)
        for down, across in np.ndindex(step, step):
            xs = _BLOCK * np.arange(columns) + _PROBE * across + _PROBE // 2
            ys = _BLOCK * np.arange(rows) + _PROBE * down + _PROBE // 2
            half = FRAME * _ONE  # five times as far as the edge of the frame
            from_centre = np.clip(_coordinates(to_preview, xs, ys), -half, half)
            cell = np.clip((5 * from_centre + half) * (CELLS - 2) // (2 * half) + 1, 0, CELLS - 1)
            np.minimum(least, regions[cell[1], cell[0]], out=least)
    return least


def _extend(previews: Pixels) -> npt.NDArray[np.int32]:
    """Surround previews by their fading borders: planes (3, N, 129, 129), one colour along all edges."""
    planes = previews.transpose(3, 0, 1, 2).astype(np.int32, order="C")
    border = planes.sum((2, 3)) - planes[:, :, 1:-1, 1:-1].sum((2, 3))
    count = 4 * (PREVIEW - 1)
    mean = ((border + count // 2) // count).astype(np.int32)[:, :, None, None]

    k = np.arange(_EXTENDED + 1, dtype=np.int32)
    ramp = np.clip(np.minimum(k, _EXTENDED - 1 - k), 0, _FADE)
    weight = np.minimum(ramp[:, None], ramp)
    nearest = np.clip(k - _FADE, 0, PREVIEW - 1)
    faded: npt.NDArray[np.int32] = (planes - mean).take(nearest, 2).take(nearest, 3)
    faded *= weight
    faded += _FADE * mean + _FADE // 2
    faded //= _FADE
    return faded


def _to_preview(geometry: Geometry | None, width: int, height: int) -> Integers:
    """Return rows (x, y, constant, denominator), (2, 4), from pixel centres to preview coordinates.

    With X = 2 column + 1 and Y = 2 row + 1, floor((x X + y Y + constant) / denominator) is the distance from
    the centre of the preview, across in row 0 and down in row 1, in 1/256 preview pixels. All sums of
    numerators are below 2^61.
    """
    if geometry is None:
        scale = 28_672  # 5 * 56 frame units in 1/256 preview pixels
        return np.array([[scale, 0, -scale * width, 5 * width], [0, scale, -scale * height, 5 * height]])
    a, b = 4096 * geometry.a, 4096 * geometry.b
    x, y = (2 * geometry.qx + 1) * width, (2 * geometry.qy + 1) * height
    denominator = 5 * (geometry.a**2 + geometry.b**2) << geometry.e
    return np.array(
        [
            [a << 16, b << 16, -(a * x + b * y), denominator],
            [-b << 16, a << 16, b * x - a * y, denominator],
        ]
    )


def _coordinates(maps: Integers, xs: Integers, ys: Integers) -> Integers:
    """Apply `maps` (..., 2, 4) to all pixels of rows `ys` and columns `xs`: (..., 2, len(ys), len(xs))."""
    x, y, constant, denominator = (maps[..., i, None, None] for i in range(4))
    return (x * (2 * xs + 1) + (y * (2 * ys + 1)[:, None] + constant)) // denominator


def _place_tile(
    tile: Pixels, planes: npt.NDArray[np.int32], maps: Integers, xs: Integers, ys: Integers
) -> None:
    """Fill the pixels of rows `ys` and columns `xs`."""
    corners = _coordinates(maps, xs[[0, -1]], ys[[0, -1]])
    low, high = corners.min((2, 3)), corners.max((2, 3))
    closest, farthest = np.maximum(low, -high).max(1), np.maximum(-low, high).max(1)
    first, *others = np.flatnonzero(closest <= farthest.min())
    if not others and closest[first] >= _ONE * _EXTENDED // 2:
        tile[...] = planes[:, first, 0, 0]
        return

    at = _coordinates(maps[first], xs, ys)
    distance, owner = np.abs(at).max(0), np.full(at.shape[1:], first)
    for face in others:
        candidate = _coordinates(maps[face], xs, ys)
        reach = np.abs(candidate).max(0)
        closer = reach < distance
        np.copyto(at, candidate, where=closer)
        np.copyto(distance, reach, where=closer)
        owner[closer] = face

    at += _ONE * (_EXTENDED - 1) // 2
    column, row = np.clip(at, 0, _ONE * (_EXTENDED - 1), out=at).astype(np.int32)
    fx, fy = column & (_ONE - 1), row & (_ONE - 1)
    side = _EXTENDED + 1
    index = (owner * side + (row >> _BITS)) * side + (column >> _BITS)
    taps = (
        (0, (_ONE - fy) * (_ONE - fx)),
        (1, (_ONE - fy) * fx),
        (side, fy * (_ONE - fx)),
        (side + 1, fy * fx),
    )
    for channel, plane in enumerate(planes.reshape(3, -1)):
        total = sum((plane[start:].take(index) * weight for start, weight in taps), start=_ONE**2 // 2)
        tile[:, :, channel] = total >> 2 * _BITS

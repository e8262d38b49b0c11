"""The base layer: faces, identity codes and appearance codes <-> bytes; codes -> embeddings and previews.

Frozen: bitstream_spec.md, "Base layer".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from . import exact, weights
from .container import number_bytes, parse_number
from .entropy import CODE_GROUP, CODE_TOP, code_groups, read_codes, tables
from .errors import CorruptError, TruncatedError, UnsupportedError
from .exact import ACTIVATION_TOP, Conv2d, Layer, Map, conv2d
from .geometry import Geometry
from .rans import Decoder, Picked, Table, Tables, encode

IDENTITY = 256
APPEARANCE = 256
APPEARANCE_TOP = 63
SMALL = 32
"""Pixels a side of the linear part of a preview."""
ALIGNED = 1
GEOMETRY_BYTES = 8

Codes = npt.NDArray[Any]


UPSAMPLED = (0, 1, 3)
"""Which of the generator's layers follow a doubling of the map."""


@dataclass(frozen=True, eq=False)
class Generator:
    """The layers that make previews: a linear part of the appearance codes, and a correction of both."""

    linear: Layer
    start: Layer
    layers: tuple[Layer, ...]
    finish: Layer


@dataclass(frozen=True, eq=False)
class BaseModel:
    """The integers of the base layer: tables of both codes, false match rates, and the generator.

    ``alone``: the tables of the identity codes of one face, code by code.
    ``verdicts`` (n, 2): cosine and false match rate, in millionths, by rising cosine.
    """

    name: str
    id: bytes
    identity: tuple[Table, ...]
    alone: Picked
    appearance: tuple[Table, ...]
    verdicts: npt.NDArray[np.int64]
    _file: weights.Model

    @cached_property
    def generator(self) -> Generator:
        """The generator, its layers proved exact when it is first needed; raises WeightsError."""
        file, layers = self._file, []
        linear = file.layer("linear", APPEARANCE, APPEARANCE_TOP, 0, 255, outputs=3 * SMALL**2)
        bound = np.repeat([CODE_TOP, APPEARANCE_TOP], [IDENTITY, APPEARANCE])
        start = file.layer("start", IDENTITY + APPEARANCE, bound, 0, ACTIVATION_TOP, multiple=16)
        channels = len(start.bias) // 16
        for index in range(5):
            layers.append(file.layer(f"layers.{index}", channels, ACTIVATION_TOP, 0, ACTIVATION_TOP))
            channels = len(layers[-1].bias)
        finish = file.layer("finish", channels, ACTIVATION_TOP, -255, 255, outputs=12)
        return Generator(linear, start, tuple(layers), finish)


def load(name: str) -> BaseModel:
    """Return the base model ``name``; raises WeightsError."""
    return _load(weights.load(name))


@cache
def _load(file: weights.Model) -> BaseModel:
    def coders(code: str, size: int, top: int) -> tuple[Table, ...]:
        return tables(file.integers(f"{code}.frequencies", (size // CODE_GROUP, 2 * top + 1)), code)

    return BaseModel(
        file.name,
        file.id,
        coders("identity", IDENTITY, CODE_TOP),
        Tables(file["identity.frequencies"]).pick(np.arange(IDENTITY) // CODE_GROUP),
        coders("appearance", APPEARANCE, APPEARANCE_TOP),
        file.integers("verdicts", (-1, 2)).astype(np.int64),
        file,
    )


@dataclass(frozen=True)
class Faces:
    """The faces of a picture: where each lies, None if aligned; identity codes (N, 256), -15..15."""

    geometries: tuple[Geometry | None, ...]
    identity: Codes


def encode_faces(faces: Faces, model: BaseModel) -> bytes:
    """Return the payload of the Faces section."""
    places = [geometry.pack() for geometry in faces.geometries if geometry]
    head = bytes([ALIGNED if len(places) < len(faces.geometries) else 0, len(faces.geometries)])
    return head + b"".join(places) + encode(code_groups(faces.identity, model.identity))


def decode_faces(payload: bytes, model: BaseModel) -> Faces:
    """Read the payload of the Faces section; raises CorruptError or UnsupportedError."""
    if len(payload) < 2:
        raise CorruptError("the faces section has no face count")
    flags, count = payload[0], payload[1]
    if flags & ~ALIGNED:
        raise UnsupportedError(f"the faces section has unknown flags {flags:#04x}")
    if flags & ALIGNED and count != 1:
        raise CorruptError(f"an aligned picture has one face, not {count}")
    start = 2 if flags & ALIGNED else 2 + GEOMETRY_BYTES * count
    if len(payload) < start:
        raise CorruptError("the faces section ends inside its geometry")
    geometries: tuple[Geometry | None, ...] = tuple(
        Geometry.unpack(payload[at : at + GEOMETRY_BYTES]) for at in range(2, start, GEOMETRY_BYTES)
    )
    if count == 1:
        return Faces(geometries or (None,), _decode_alone(payload[start:], model))
    return Faces(geometries, _decode_codes(payload[start:], count, model.identity, count * IDENTITY))


def encode_appearance(codes: Codes, model: BaseModel, kept: int | None = None) -> bytes:
    """Return the payload of the Appearance section from codes (N, 256), -63..63, or the first ``kept``."""
    kept = codes.size if kept is None else kept
    groups, left = [], kept
    for symbols, table in code_groups(codes, model.appearance):
        groups.append((symbols[:left], table))
        left -= len(groups[-1][0])
    return number_bytes(codes.size - kept) + encode(groups)


def decode_appearance(payload: bytes, count: int, model: BaseModel) -> Codes:
    """Return the appearance codes int32 (count, 256), 0 where they are missing; raises CorruptError."""
    try:
        missing, start = parse_number(payload, 0)
    except TruncatedError as error:
        raise CorruptError(f"the appearance section: {error}") from None
    if missing > count * APPEARANCE:
        raise CorruptError(f"{missing} appearance codes are missing, more than there are")
    return _decode_codes(payload[start:], count, model.appearance, count * APPEARANCE - missing)


def _decode_alone(words: bytes, model: BaseModel) -> Codes:
    """Return the identity codes (1, 256) of one face as ``_decode_codes`` does, in half the time."""
    decoder = Decoder(words)
    symbols = decoder.take(IDENTITY, model.alone)
    decoder.finish()
    return symbols[None] - CODE_TOP


def _decode_codes(words: bytes, count: int, coders: Sequence[Table], kept: int) -> Codes:
    decoder, left = Decoder(words), kept

    def take(size: int, table: Table) -> Codes:
        nonlocal left
        coded = min(size, left)
        left -= coded
        symbols = decoder.take(coded, table)
        return (
            symbols if coded == size else np.pad(symbols, (0, size - coded), constant_values=table.size // 2)
        )

    whole = kept == count * CODE_GROUP * len(coders)
    codes = read_codes(decoder.take if whole else take, count, coders)
    decoder.finish()
    return codes


def embeddings(identity: Codes) -> npt.NDArray[np.float32]:
    """Return unit embeddings float32 (N, 256) of identity codes (N, 256).

    Codes divided by their Euclidean norm in binary64, then rounded to binary32: the same bits everywhere.
    All codes zero give the zero vector.
    """
    codes = identity.astype(np.float64)
    norms = np.sqrt((codes * codes).sum(1, keepdims=True))
    result: npt.NDArray[np.float32] = (codes / np.maximum(norms, 1.0)).astype(np.float32)
    return result


def previews(
    identity: Codes, appearance: Codes, model: BaseModel, convolve: Conv2d = conv2d
) -> npt.NDArray[np.uint8]:
    """Return previews uint8 RGB (N, 64, 64, 3) of identity codes (N, 256) and appearance codes (N, 256)."""
    codes = np.concatenate([identity, appearance], 1).astype(np.float32)
    if not len(codes):
        return np.empty((0, 64, 64, 3), np.uint8)
    generator = model.generator
    x = exact.linear(codes, generator.start, convolve).reshape(len(codes), -1, 4, 4)
    for index, layer in enumerate(generator.layers):
        x = convolve(exact.upsample2(x) if index in UPSAMPLED else x, layer)
    correction = exact.depth_to_space(convolve(x, generator.finish), 2)
    small = exact.linear(appearance.astype(np.float32), generator.linear, convolve)
    pixels = exact.add_clip(doubled(small.reshape(-1, 3, SMALL, SMALL)), correction, 0, 255)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).astype(np.uint8)


def doubled(x: Map) -> Map:
    """Return maps (N, C, H, W) of integers at twice the size, bilinear, halves up; the border repeats."""
    edged = np.pad(exact.upsample2(x), ((0, 0), (0, 0), (1, 1), (1, 1)), "edge")
    rows = edged[:, :, :-2] + 2 * edged[:, :, 1:-1] + edged[:, :, 2:]
    total = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    result: Map = np.floor((total + 8) / 16)
    return result

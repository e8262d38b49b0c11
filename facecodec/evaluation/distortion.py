"""Rate and distortion of this codec and of other formats, picture by picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facecodec import codec, encoder
from facecodec.evaluation import rates
from facecodec.evaluation.peers import PEERS
from facecodec.evaluation.pictures import Entry

Pixels = npt.NDArray[np.uint8]

OURS = "fsc"
STEPS = 16
"""Sizes at which one file is cut, from its base layer to its end."""

QUALITIES = (25, 50, 75, 90)
TARGETS = (26, 28, 30, 32, 34)
STRIDE = 16
"""Bytes between the cuts that look for a fall in quality."""


@dataclass(frozen=True)
class Point:
    """One whole file: the ``setting`` that made it, its ``size`` in bytes, its ``psnr`` in dB."""

    codec: str
    setting: str
    size: int
    psnr: float


@dataclass(frozen=True)
class Measured:
    """All files of one picture; ``fall`` is the largest fall in dB along our stream, None if not walked."""

    id: str
    source: str
    width: int
    height: int
    faces: int
    points: tuple[Point, ...]
    fall: float | None

    def curve(self, name: str) -> rates.Curve:
        """Return bytes against PSNR of one codec."""
        return rates.curve((point.size, point.psnr) for point in self.points if point.codec == name)


def measure(entry: Entry, *, peers: Sequence[str] = (), walked: bool = False) -> Measured:
    """Encode and decode one picture by this codec and by ``peers``; ``walked`` looks for falls in quality."""
    pixels = entry.pixels()
    full = encoder.encode(pixels, quality=100, no_face="encode")
    points = [*_ours(full, pixels)]
    for name in peers:
        points += [Point(name, s, size, rates.psnr(pixels, p)) for s, size, p in PEERS[name].files(pixels)]
    height, width = pixels.shape[:2]
    fall = rates.largest_fall(along(full, pixels)) if walked else None
    return Measured(entry.id, entry.source, width, height, codec.info(full).faces, tuple(points), fall)


def _ours(full: bytes, pixels: Pixels) -> Iterator[Point]:
    base = codec.strip(full, "base")
    yield Point(OURS, "base", len(base), rates.psnr(pixels, codec.decode(base).pixels))
    sizes = np.geomspace(len(base), len(full), STEPS).round().astype(int)
    for short in (codec.truncate(full, int(size)) for size in sizes[1:-1]):
        yield Point(OURS, "truncated", len(short), rates.psnr(pixels, codec.decode(short).pixels))
    yield Point(OURS, "quality=100", len(full), rates.psnr(pixels, codec.decode(full).pixels))
    for quality in QUALITIES:
        data = encoder.encode(pixels, quality=quality, no_face="encode")
        yield Point(OURS, f"quality={quality}", len(data), rates.psnr(pixels, codec.decode(data).pixels))


def along(data: bytes, pixels: Pixels, stride: int = STRIDE) -> Iterator[float]:
    """Yield the PSNR of a file cut at every ``stride`` bytes from its base layer to its end."""
    for size in (*range(len(codec.strip(data, "base")), len(data), stride), len(data)):
        yield rates.psnr(pixels, codec.decode(codec.truncate(data, size)).pixels)


def report(measured: Sequence[Measured], peers: Sequence[str]) -> dict[str, Any]:
    """Return the figures over all pictures, and by size and source, as numbers and text for JSON."""
    names = [OURS, *peers]
    groups: dict[str, list[Measured]] = {"all": list(measured)}
    keys: tuple[Callable[[Measured], str], ...] = (
        lambda m: f"{m.width}x{m.height}",
        lambda m: f"{m.source} {m.width}x{m.height}",
    )
    for key in keys:
        parts: dict[str, list[Measured]] = {}
        for picture in measured:
            parts.setdefault(key(picture), []).append(picture)
        known = list(groups.values())
        groups |= {name: part for name, part in sorted(parts.items()) if part not in known}
    falls = [m.fall for m in measured if m.fall is not None]
    return {
        "pictures": len(measured),
        "without_face": sum(not m.faces for m in measured),
        "targets": list(TARGETS),
        "groups": {name: _group(part, names) for name, part in groups.items()},
        "largest_fall": {"pictures": len(falls), "stride": STRIDE, "decibels": max(falls, default=None)},
    }


def _group(measured: Sequence[Measured], names: Sequence[str]) -> dict[str, Any]:
    curves = {name: [m.curve(name) for m in measured] for name in names}
    needed = {
        name: np.array([[rates.bytes_for(c, target) for target in TARGETS] for c in curves[name]])
        for name in names
    }
    reached = np.isfinite(np.array(list(needed.values()))).all(0)
    return {
        "pictures": len(measured),
        "compared": reached.sum(0).tolist(),
        "bytes": {
            name: [
                float(column[here].mean()) if here.any() else None
                for column, here in zip(needed[name].T, reached.T, strict=True)
            ]
            for name in names
        },
        "rate_difference": {name: _difference(curves[OURS], curves[name]) for name in names[1:]},
        "settings": {
            setting: _mean([p for m in measured for p in m.points if (p.codec, p.setting) == (OURS, setting)])
            for setting in ("base", *(f"quality={q}" for q in (*QUALITIES, 100)))
        },
    }


def _difference(ours: Sequence[rates.Curve], theirs: Sequence[rates.Curve]) -> dict[str, Any] | None:
    """Return our mean rate difference in per cent, its mean range in dB, and how many pictures have one."""
    found = [rates.rate_difference(a, b) for a, b in zip(ours, theirs, strict=True)]
    known = np.array([difference for difference in found if difference])
    if not len(known):
        return None
    mean, low, high = known.mean(0)
    return {
        "percent": 100 * math.expm1(mean),
        "from_db": float(low),
        "to_db": float(high),
        "pictures": len(known),
    }


def _mean(points: Sequence[Point]) -> dict[str, float | None]:
    finite = [p.psnr for p in points if math.isfinite(p.psnr)]
    return {
        "bytes": float(np.mean([p.size for p in points])),
        "psnr": float(np.mean(finite)) if finite else None,
    }


def table(measured: Sequence[Measured]) -> str:
    """Return every file of every picture as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", "source", "width", "height", "faces", "codec", "setting", "bytes", "psnr"])
    for m in measured:
        for p in m.points:
            row = (m.id, m.source, m.width, m.height, m.faces, p.codec, p.setting, p.size, f"{p.psnr:.4f}")
            writer.writerow(row)
    return buffer.getvalue()
